//! A small controller as people write them with kube-rs: a kind of its own, a finalizer, a child that it owns, and
//! a status.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{finalizer, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::Running;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Greeting {
    #[serde(rename = "apiVersion", default = "api_version")]
    api_version: String,
    #[serde(default = "kind")]
    kind: String,
    metadata: ObjectMeta,
    spec: GreetingSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Said>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct GreetingSpec {
    to: String,
    times: u8,
    mood: Option<Mood>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Mood {
    Cheerful,
    Grave,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Said {
    words: Option<String>,
    observed: Option<i64>,
}

fn api_version() -> String {
    "example.com/v1alpha1".to_owned()
}

fn kind() -> String {
    "Greeting".to_owned()
}

/// What `derive(CustomResource)` writes.
impl Resource for Greeting {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Greeting".into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        "example.com".into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "greetings".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The definition in the form that kube-rs derives: nullable enumerations, formats and bounds of numbers.
fn definition() -> serde_json::Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": NAME },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "categories": [], "kind": "Greeting", "plural": "greetings", "shortNames": ["gr"], "singular": "greeting" },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
                "additionalPrinterColumns": [{ "name": "To", "type": "string", "jsonPath": ".spec.to" }],
                "schema": { "openAPIV3Schema": {
                    "title": "Greeting", "type": "object", "required": ["spec"],
                    "properties": {
                        "spec": {
                            "type": "object", "required": ["to"],
                            "properties": {
                                "to": { "type": "string" },
                                "times": { "type": "integer", "format": "uint8", "minimum": 0.0, "maximum": 255.0, "default": 2 },
                                "mood": { "type": "string", "enum": ["Cheerful", "Grave"], "nullable": true },
                            },
                        },
                        "status": {
                            "type": "object", "nullable": true,
                            "properties": {
                                "words": { "type": "string", "nullable": true },
                                "observed": { "type": "integer", "format": "int64", "nullable": true },
                            },
                        },
                    },
                } },
            }],
        },
    })
}

const NAME: &str = "greetings.example.com";

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn reconcile(
    greeting: Arc<Greeting>,
    client: Arc<Client>,
) -> Result<Action, finalizer::Error<kube::Error>> {
    let greetings: Api<Greeting> = Api::namespaced((*client).clone(), "default");
    finalizer(&greetings, "example.com/farewell", greeting, |event| async {
        match event {
            finalizer::Event::Apply(greeting) => say(&client, &greeting).await,
            finalizer::Event::Cleanup(_) => Ok(Action::await_change()),
        }
    })
    .await
}

async fn say(client: &Client, greeting: &Greeting) -> Result<Action, kube::Error> {
    let words = format!("hello {} ", greeting.spec.to).repeat(greeting.spec.times.into());
    let params = PatchParams::apply("greeter").force();
    let child = ConfigMap {
        metadata: ObjectMeta {
            name: Some(greeting.name_any()),
            owner_references: greeting.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..Default::default()
        },
        data: Some(BTreeMap::from([("words".to_owned(), words.clone())])),
        ..Default::default()
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.patch(&greeting.name_any(), &params, &Patch::Apply(child))
        .await?;
    let status = json!({
        "apiVersion": Greeting::api_version(&()), "kind": Greeting::kind(&()),
        "status": { "words": words, "observed": greeting.metadata.generation },
    });
    let greetings: Api<Greeting> = Api::namespaced(client.clone(), "default");
    greetings
        .patch_status(&greeting.name_any(), &params, &Patch::Apply(status))
        .await?;
    Ok(Action::await_change())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_written_with_kube_rs_does_its_work() -> Result<(), Error> {
    let running = Running::start().await;
    let client = running.over_tls("admin", "system:masters").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .patch(NAME, &PatchParams::apply("greeter"), &Patch::Apply(definition()))
        .await?;
    await_condition(definitions.clone(), NAME, conditions::is_crd_established()).await?;

    let greetings: Api<Greeting> = Api::namespaced(client.clone(), "default");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let controller = Controller::new(greetings.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_millis(200)),
            Arc::new(client),
        )
        .for_each(|_| async {});
    let controller = tokio::spawn(controller);

    let first = json!({ "apiVersion": api_version(), "kind": kind(), "metadata": { "name": "first" },
                        "spec": { "to": "world", "mood": "Cheerful" } });
    let dynamic: Api<DynamicObject> =
        Api::default_namespaced_with(running.admin(), &ApiResource::erase::<Greeting>(&()));
    dynamic
        .create(&PostParams::default(), &serde_json::from_value(first)?)
        .await?;
    let said = |words: &'static str| {
        move |greeting: Option<&Greeting>| {
            let status = greeting.and_then(|greeting| greeting.status.as_ref());
            status.is_some_and(|status| status.words.as_deref() == Some(words))
        }
    };
    await_condition(greetings.clone(), "first", said("hello world hello world ")).await?;
    let patch = json!({ "spec": { "times": 1, "mood": "Grave" } });
    greetings
        .patch("first", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    await_condition(greetings.clone(), "first", said("hello world ")).await?;
    let first = greetings.get("first").await?;
    assert_eq!(
        first.metadata.generation,
        first.status.and_then(|status| status.observed)
    );
    let refused = json!({ "spec": { "mood": "Gloomy" } });
    let refused = greetings
        .patch("first", &PatchParams::default(), &Patch::Merge(refused))
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains(r#"Unsupported value: "Gloomy""#)
    );

    // Its child comes back, and it goes when its finalizer has been looked after.
    maps.delete("first", &DeleteParams::default()).await?;
    await_condition(maps.clone(), "first", |map: Option<&ConfigMap>| map.is_some()).await?;
    let uid = first.metadata.uid.unwrap_or_default();
    greetings.delete("first", &DeleteParams::default()).await?;
    await_condition(greetings.clone(), "first", conditions::is_deleted(&uid)).await?;
    assert!(greetings.list(&ListParams::default()).await?.items.is_empty());
    controller.abort();
    Ok(())
}
