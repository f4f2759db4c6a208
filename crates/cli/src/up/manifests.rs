//! Manifests that a new cluster begins with: read before anything is started, applied when its nodes are Ready.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{ApiCapabilities, ApiResource, Scope, pinned_kind};
use kube::{Api, Client};
use serde_json::Value;
use supervisor::Paths;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::output::out;
use crate::{api, manifests};

/// Who owns the fields.
const MANAGER: &str = "ripstop";
/// How long a kind, or a namespace, that another manifest makes may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Objects to apply, and where they come from.
#[derive(Debug, Default)]
pub(super) struct Manifests(Vec<(PathBuf, DynamicObject)>);

/// Reads the manifests at these paths.
pub(super) fn read<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Manifests, Failure> {
    let mut files = Vec::new();
    for path in paths {
        manifests::find(path, &mut files)?;
    }
    let mut objects = Vec::new();
    for file in files {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::usage(
                format!("{}: {error}", file.display()),
                "`kubectl apply --dry-run=client -f` says more",
            )
        };
        let text = std::fs::read_to_string(&file).map_err(|error| failed(&error))?;
        let of_file = of_text(&text).map_err(|error| failed(&error))?;
        objects.extend(of_file.into_iter().map(|object| (file.clone(), object)));
    }
    // What others are in comes before them.
    objects.sort_by_key(|(_, object)| rank(object));
    Ok(Manifests(objects))
}

/// The objects of one file's text.
pub(crate) fn of_text(text: &str) -> Result<Vec<DynamicObject>, String> {
    let mut objects = Vec::new();
    for document in manifests::documents(text) {
        let value = serde_saphyr::from_str(&document).map_err(|error| error.to_string())?;
        for object in split(value) {
            objects.push(parse(object)?);
        }
    }
    Ok(objects)
}

/// The items of a list.
fn split(mut value: Value) -> Vec<Value> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => items,
        _ if value.is_null() => Vec::new(),
        _ => vec![value],
    }
}

fn parse(value: Value) -> Result<DynamicObject, String> {
    let object: DynamicObject = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if object.types.is_none() {
        return Err("an object without apiVersion and kind".to_owned());
    }
    if object.metadata.name.as_deref().unwrap_or_default().is_empty() {
        return Err(format!("{} without metadata.name", kind(&object)));
    }
    Ok(object)
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

fn rank(object: &DynamicObject) -> u8 {
    match kind(object) {
        "CustomResourceDefinition" | "Namespace" | "PriorityClass" => 0,
        "ServiceAccount" | "ConfigMap" | "Secret" => 1,
        _ => 2,
    }
}

/// Applies them all, and tells about each.
pub(super) async fn apply(paths: &Paths, manifests: Manifests) -> Result<(), Failure> {
    if manifests.0.is_empty() {
        return Ok(());
    }
    let client = api::client(paths).await?;
    for (file, object) in manifests.0 {
        let name = format!(
            "{} {}",
            kind(&object),
            object.metadata.name.as_deref().unwrap_or_default()
        );
        let applied = patiently(&client, &object).await;
        applied.map_err(|error| {
            Failure::new(
                format!("{}: {name}: {error}", file.display()),
                "the cluster is up; correct the manifest and say `ripstop up --config` again",
            )
        })?;
        out!("applied {name}");
    }
    Ok(())
}

/// Tries again for as long as the kind or the namespace isn't there yet.
async fn patiently(client: &Client, object: &DynamicObject) -> Result<(), kube::Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match apply_one(client, object).await {
            Err(error) if is_missing(&error) && Instant::now() < deadline => sleep(PAUSE).await,
            result => return result,
        }
    }
}

fn is_missing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 404,
        kube::Error::Discovery(_) => true,
        _ => false,
    }
}

async fn apply_one(client: &Client, object: &DynamicObject) -> Result<(), kube::Error> {
    let types = object.types.clone().unwrap_or_else(|| TypeMeta {
        api_version: String::new(),
        kind: String::new(),
    });
    let gvk = GroupVersionKind::try_from(types).map_err(|error| kube::Error::Service(error.into()))?;
    let (resource, capabilities) = pinned_kind(client, &gvk).await?;
    let api = api_of(client, object, &resource, &capabilities);
    let params = PatchParams::apply(MANAGER).force();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    api.patch(name, &params, &Patch::Apply(object)).await.map(drop)
}

fn api_of(
    client: &Client,
    object: &DynamicObject,
    resource: &ApiResource,
    capabilities: &ApiCapabilities,
) -> Api<DynamicObject> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
    match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, resource),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let paths = [path.to_owned()];
        let manifests = read(paths.iter()).expect("they can be read");
        let name = |object: &DynamicObject| object.metadata.name.clone().expect("it has one");
        let text = |(_, object): &(PathBuf, DynamicObject)| format!("{}/{}", kind(object), name(object));
        manifests.0.iter().map(text).collect()
    }

    #[test]
    fn what_others_are_in_comes_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ns}\n---\n# nothing\n---\n";
        let list =
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: ns}}\n";
        std::fs::write(dir.path().join("a.yaml"), pod).expect("written");
        std::fs::write(dir.path().join("b.yml"), list).expect("written");
        std::fs::write(dir.path().join("notes.txt"), "nothing").expect("written");
        assert_eq!(names(dir.path()), ["Namespace/ns", "Pod/p"]);
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.yaml");
        for text in [
            "kind: Pod\n",
            "apiVersion: v1\nkind: Pod\nmetadata: {}\n",
            "a: [\n",
        ] {
            std::fs::write(&path, text).expect("written");
            assert!(read([path.clone()].iter()).is_err(), "{text}");
        }
    }
}
