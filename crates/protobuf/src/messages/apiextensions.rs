//! `apiextensions.k8s.io/v1`.

use super::meta::ObjectMeta;
use crate::table::messages;

messages! {
    CustomResourceColumnDefinition {
        1 name: string always, 2 type: string always, 3 format: string, 4 description: string, 5 priority: int32,
        6 jsonPath: string always,
    }
    CustomResourceConversion { 1 strategy: string always, 2 webhook: WebhookConversion optional, }
    CustomResourceDefinition {
        1 metadata: ObjectMeta, 2 spec: CustomResourceDefinitionSpec, 3 status: CustomResourceDefinitionStatus,
    }
    CustomResourceDefinitionCondition {
        1 type: string always, 2 status: string always, 3 lastTransitionTime: Time, 4 reason: string,
        5 message: string, 6 observedGeneration: int64,
    }
    CustomResourceDefinitionNames {
        1 plural: string always, 2 singular: string, 3 shortNames: [string], 4 kind: string always,
        5 listKind: string, 6 categories: [string],
    }
    CustomResourceDefinitionSpec {
        1 group: string always, 3 names: CustomResourceDefinitionNames, 4 scope: string always,
        7 versions: [CustomResourceDefinitionVersion], 9 conversion: CustomResourceConversion optional,
        10 preserveUnknownFields: bool,
    }
    CustomResourceDefinitionStatus {
        1 conditions: [CustomResourceDefinitionCondition], 2 acceptedNames: CustomResourceDefinitionNames,
        3 storedVersions: [string], 4 observedGeneration: int64,
    }
    CustomResourceDefinitionVersion {
        1 name: string always, 2 served: bool always, 3 storage: bool always,
        4 schema: CustomResourceValidation optional, 5 subresources: CustomResourceSubresources optional,
        6 additionalPrinterColumns: [CustomResourceColumnDefinition], 7 deprecated: bool,
        8 deprecationWarning: string optional, 9 selectableFields: [SelectableField],
    }
    CustomResourceSubresourceScale {
        1 specReplicasPath: string always, 2 statusReplicasPath: string always,
        3 labelSelectorPath: string optional,
    }
    CustomResourceSubresourceStatus {}
    CustomResourceSubresources {
        1 status: CustomResourceSubresourceStatus optional, 2 scale: CustomResourceSubresourceScale optional,
    }
    CustomResourceValidation { 1 openAPIV3Schema: JSONSchemaProps optional, }
    ExternalDocumentation { 1 description: string, 2 url: string, }
    JSONSchemaProps {
        1 id: string, 2 "$schema": string, 3 "$ref": string optional, 4 description: string, 5 type: string,
        6 format: string, 7 title: string, 8 default: Json optional, 9 maximum: double optional,
        10 exclusiveMaximum: bool, 11 minimum: double optional, 12 exclusiveMinimum: bool,
        13 maxLength: int64 optional, 14 minLength: int64 optional, 15 pattern: string,
        16 maxItems: int64 optional, 17 minItems: int64 optional, 18 uniqueItems: bool,
        19 multipleOf: double optional, 20 enum: [Json], 21 maxProperties: int64 optional,
        22 minProperties: int64 optional, 23 required: [string], 24 items: SchemaOrList optional,
        25 allOf: [JSONSchemaProps], 26 oneOf: [JSONSchemaProps], 27 anyOf: [JSONSchemaProps],
        28 not: JSONSchemaProps optional, 29 properties: {JSONSchemaProps},
        30 additionalProperties: SchemaOrBool optional, 31 patternProperties: {JSONSchemaProps},
        32 dependencies: {SchemaOrStrings}, 33 additionalItems: SchemaOrBool optional,
        34 definitions: {JSONSchemaProps}, 35 externalDocs: ExternalDocumentation optional,
        36 example: Json optional, 37 nullable: bool,
        38 "x-kubernetes-preserve-unknown-fields": bool optional, 39 "x-kubernetes-embedded-resource": bool,
        40 "x-kubernetes-int-or-string": bool, 41 "x-kubernetes-list-map-keys": [string],
        42 "x-kubernetes-list-type": string optional, 43 "x-kubernetes-map-type": string optional,
        44 "x-kubernetes-validations": [ValidationRule],
    }
    SelectableField { 1 jsonPath: string always, }
    ServiceReference {
        1 namespace: string always, 2 name: string always, 3 path: string optional, 4 port: int32 optional,
    }
    ValidationRule {
        1 rule: string always, 2 message: string, 3 messageExpression: string, 4 reason: string optional,
        5 fieldPath: string, 6 optionalOldSelf: bool optional,
    }
    WebhookClientConfig {
        1 service: ServiceReference optional, 2 caBundle: bytes, 3 url: string optional,
    }
    WebhookConversion {
        2 clientConfig: WebhookClientConfig optional, 3 conversionReviewVersions: [string],
    }
}
