//! OpenAPI v3: one document a group version.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kinds::Kind;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::KUBERNETES_VERSION;
use crate::definitions::{self, PATCH, V3_PREFIX};
use crate::operations::{self, Operation};

const PATCH_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

const CUSTOM_PATCH_TYPES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

/// Paths and hashes of the table's documents. Small, so these are kept.
fn hashes() -> &'static BTreeMap<String, String> {
    static HASHES: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    HASHES.get_or_init(|| {
        let documents = group_versions(kinds::all()).into_iter();
        documents
            .map(|(path, (group, version))| (path, hash(&group_version(group, version, &[]))))
            .collect()
    })
}

fn hash(document: &Value) -> String {
    let hash = Sha256::digest(document.to_string().as_bytes());
    hash.iter().take(32).map(|byte| format!("{byte:02X}")).collect()
}

pub(crate) fn root(custom: &[Kind]) -> String {
    let mut hashes = hashes().clone();
    for (path, (group, version)) in group_versions(custom) {
        hashes.insert(path, hash(&group_version(group, version, custom)));
    }
    let paths: Map<String, Value> = hashes
        .iter()
        .map(|(path, hash)| {
            (
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}),
            )
        })
        .collect();
    json!({"paths": paths}).to_string()
}

pub(crate) fn document(path: &str, custom: &[Kind]) -> Option<String> {
    let of_table = group_versions(kinds::all());
    let of_custom = group_versions(custom);
    let (group, version) = *of_table.get(path).or_else(|| of_custom.get(path))?;
    Some(group_version(group, version, custom).to_string())
}

/// Served group versions by their path, as in `apis/apps/v1`.
fn group_versions(kinds: &[Kind]) -> BTreeMap<String, (&str, &str)> {
    kinds
        .iter()
        .map(|kind| match kind.group() {
            "" => (format!("api/{}", kind.version()), ("", kind.version())),
            group => (
                format!("apis/{group}/{}", kind.version()),
                (group, kind.version()),
            ),
        })
        .collect()
}

fn group_version(group: &str, version: &str, custom: &[Kind]) -> Value {
    let paths: Map<String, Value> = operations::paths(group, version, custom)
        .into_iter()
        .map(|path| {
            let mut item = Map::new();
            let parameters: Vec<Value> = operations::path_parameters(&path.path)
                .map(|(name, description)| parameter("path", name, "string", description))
                .collect();
            if !parameters.is_empty() {
                item.insert("parameters".to_owned(), parameters.into());
            }
            for operation in &path.operations {
                item.insert(operation.method.to_owned(), operation_object(operation));
            }
            (path.path, Value::Object(item))
        })
        .collect();
    let paths = Value::Object(paths);
    let mut schemas = definitions::all(custom);
    let needed = definitions::reachable(&paths, &schemas);
    schemas.retain(|name, _| needed.contains(name));
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn operation_object(operation: &Operation) -> Value {
    let (group, version, kind) = &operation.target;
    let mut object = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [operation.tag],
        "responses": {"200": {"description": "OK", "content": content(&["application/json"], &operation.answer)}},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": definitions::group_version_kind(group, version, kind),
    });
    if !operation.query.is_empty() {
        let query = operation.query.iter();
        object["parameters"] = query
            .map(|(name, ty, description)| parameter("query", name, ty, description))
            .collect();
    }
    if let Some(body) = &operation.body {
        let types = match body == PATCH {
            true if operation.custom => &CUSTOM_PATCH_TYPES[..],
            true => &PATCH_TYPES[..],
            false => &["application/json"],
        };
        object["requestBody"] =
            json!({"required": operation.method != "delete", "content": content(types, body)});
    }
    object
}

fn content(types: &[&str], definition: &str) -> Value {
    let schema = json!({"schema": {"$ref": format!("{V3_PREFIX}{definition}")}});
    types
        .iter()
        .map(|ty| ((*ty).to_owned(), schema.clone()))
        .collect::<Map<_, _>>()
        .into()
}

fn parameter(place: &str, name: &str, ty: &str, description: &str) -> Value {
    let mut parameter =
        json!({"name": name, "in": place, "description": description, "schema": {"type": ty}});
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parsed(path: &str) -> Value {
        serde_json::from_str(&document(path, &[]).unwrap()).unwrap()
    }

    #[test]
    fn the_root_leads_to_every_document_by_its_hash() {
        let root: Value = serde_json::from_str(&root(&[])).unwrap();
        let paths = root["paths"].as_object().unwrap();
        let served = kinds::all().iter().map(|kind| match kind.group() {
            "" => format!("api/{}", kind.version()),
            group => format!("apis/{group}/{}", kind.version()),
        });
        assert_eq!(
            paths.keys().cloned().collect::<BTreeSet<_>>(),
            served.collect::<BTreeSet<_>>()
        );
        for (path, entry) in paths {
            let url = entry["serverRelativeURL"].as_str().unwrap();
            assert_eq!(url, format!("/openapi/v3/{path}?hash={}", hashes()[path]));
        }
        assert_eq!(document("apis/nothing/v1", &[]), None);
    }

    #[test]
    fn the_patch_operation_tells_kubectl_what_the_server_knows() {
        let document = parsed("apis/apps/v1");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "version": "v1", "kind": "Deployment"})
        );
        let names: Vec<_> = patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| &p["name"])
            .collect();
        assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation"]);
    }

    #[test]
    fn documents_hold_what_they_refer_to_and_no_more() {
        let document = parsed("apis/coordination.k8s.io/v1");
        let schemas: Vec<_> = document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        let names = schemas
            .iter()
            .map(|name| name.rsplit('.').next().unwrap())
            .collect::<Vec<_>>();
        let expected = [
            "Lease",
            "LeaseList",
            "LeaseSpec",
            "DeleteOptions",
            "FieldsV1",
            "ListMeta",
            "ManagedFieldsEntry",
            "MicroTime",
            "ObjectMeta",
            "OwnerReference",
            "Patch",
            "Preconditions",
            "ShardInfo",
            "Status",
            "StatusCause",
            "StatusDetails",
            "Time",
        ];
        assert_eq!(names, expected);
    }
}
