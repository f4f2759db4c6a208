//! A small controller as people write them with kube-rs: a kind of its own, a finalizer, a child that it owns, and
//! a status.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
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
use kube::runtime::wait::{self, await_condition, conditions};
use kube::runtime::{finalizer, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
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
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// Whether a greeting's status says this.
fn said(words: &'static str) -> impl Fn(Option<&Greeting>) -> bool {
    move |greeting| {
        let status = greeting.and_then(|greeting| greeting.status.as_ref());
        status.is_some_and(|status| status.words.as_deref() == Some(words))
    }
}

/// Waits as long as a busy machine may need.
async fn settled<K>(api: &Api<K>, name: &str, condition: impl wait::Condition<K>)
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    let waiting = await_condition(api.clone(), name, condition);
    let outcome = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    outcome
        .unwrap_or_else(|_| panic!("{name} doesn't settle"))
        .unwrap();
}

/// Starts the controller, after its kind is there.
async fn start(client: Client) -> tokio::task::JoinHandle<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = Patch::Apply(definition());
    let params = PatchParams::apply("greeter");
    definitions.patch(NAME, &params, &apply).await.unwrap();
    settled(&definitions, NAME, conditions::is_crd_established()).await;
    let controller = Controller::new(
        Api::<Greeting>::namespaced(client.clone(), "default"),
        watcher::Config::default(),
    )
    .owns(
        Api::<ConfigMap>::namespaced(client.clone(), "default"),
        watcher::Config::default(),
    )
    .run(
        reconcile,
        |_, _, _| Action::requeue(Duration::from_millis(200)),
        Arc::new(client),
    )
    .for_each(|_| async {});
    tokio::spawn(controller)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_written_with_kube_rs_does_its_work() -> Result<(), Error> {
    let running = Running::start().await;
    let client = running.over_tls("admin", "system:masters").await;
    let controller = start(client.clone()).await;
    let greetings: Api<Greeting> = Api::namespaced(client.clone(), "default");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");

    // Without the field that has a default.
    let first = json!({ "apiVersion": Greeting::api_version(&()), "kind": Greeting::kind(&()),
                        "metadata": { "name": "first" }, "spec": { "to": "world", "mood": "Cheerful" } });
    let dynamic: Api<DynamicObject> =
        Api::default_namespaced_with(running.admin(), &ApiResource::erase::<Greeting>(&()));
    dynamic
        .create(&PostParams::default(), &serde_json::from_value(first)?)
        .await?;
    settled(&greetings, "first", said("hello world hello world ")).await;
    let patch = json!({ "spec": { "times": 1, "mood": "Grave" } });
    greetings
        .patch("first", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    settled(&greetings, "first", said("hello world ")).await;
    let first = greetings.get("first").await?;
    assert_eq!(
        first.metadata.generation,
        first.status.and_then(|status| status.observed)
    );
    for (spec, complaint) in [
        (json!({ "mood": "Gloomy" }), r#"Unsupported value: "Gloomy""#),
        (json!({ "times": 256 }), "less than or equal to 255"),
    ] {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let refused = greetings.patch("first", &PatchParams::default(), &patch).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(complaint), "{refused}");
    }

    // Its child comes back, and it goes when its finalizer has been looked after.
    maps.delete("first", &DeleteParams::default()).await?;
    settled(&maps, "first", |map: Option<&ConfigMap>| map.is_some()).await;
    let uid = first.metadata.uid.unwrap_or_default();
    greetings.delete("first", &DeleteParams::default()).await?;
    settled(&greetings, "first", conditions::is_deleted(&uid)).await;
    assert!(greetings.list(&ListParams::default()).await?.items.is_empty());
    controller.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_goes_on_after_the_server_was_started_anew() -> Result<(), Error> {
    let running = Running::start().await;
    let client = running.over_tls("admin", "system:masters").await;
    let controller = start(client.clone()).await;
    let greetings: Api<Greeting> = Api::namespaced(client.clone(), "default");
    let greeting = |name: &str| Greeting {
        api_version: api_version(),
        kind: kind(),
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        spec: GreetingSpec {
            to: name.to_owned(),
            times: 1,
            mood: None,
        },
        status: None,
    };
    for name in ["changed", "deleted"] {
        greetings.create(&PostParams::default(), &greeting(name)).await?;
    }
    settled(&greetings, "changed", said("hello changed ")).await;
    settled(&greetings, "deleted", said("hello deleted ")).await;
    let uid = greetings.get("deleted").await?.metadata.uid.unwrap_or_default();

    let running = running.restart().await;
    // Nobody waits for the controller: what it finds when it is back is what counts.
    let patch = Patch::Merge(json!({ "spec": { "times": 2 } }));
    greetings
        .patch("changed", &PatchParams::default(), &patch)
        .await?;
    greetings.delete("deleted", &DeleteParams::default()).await?;
    greetings
        .create(&PostParams::default(), &greeting("made"))
        .await?;
    settled(&greetings, "changed", said("hello changed hello changed ")).await;
    settled(&greetings, "made", said("hello made ")).await;
    settled(&greetings, "deleted", conditions::is_deleted(&uid)).await;
    controller.abort();
    drop(running);
    Ok(())
}
