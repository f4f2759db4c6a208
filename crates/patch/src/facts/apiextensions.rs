//! `apiextensions.k8s.io/v1`.

types! { apiextensions,
    CustomResourceConversion { webhook: apiextensions::WebhookConversion; }
    CustomResourceDefinition {
        metadata: meta::ObjectMeta;
        spec: apiextensions::CustomResourceDefinitionSpec;
        status: apiextensions::CustomResourceDefinitionStatus;
    }
    CustomResourceDefinitionNames { categories .list_atomic(); shortNames .list_atomic(); }
    CustomResourceDefinitionSpec {
        conversion: apiextensions::CustomResourceConversion;
        names: apiextensions::CustomResourceDefinitionNames;
        versions .list_atomic();
    }
    CustomResourceDefinitionStatus {
        acceptedNames: apiextensions::CustomResourceDefinitionNames;
        conditions .list_map(&["type"]);
        storedVersions .list_atomic();
    }
    CustomResourceDefinitionVersion {
        additionalPrinterColumns .list_atomic();
        selectableFields .list_atomic();
    }
    WebhookConversion { conversionReviewVersions .list_atomic(); }
}
