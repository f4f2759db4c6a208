//! Schemas of all types, by definition name, in OpenAPI v3's form.

use std::collections::{BTreeMap, BTreeSet};

use kinds::Kind;
use patch::schema::{self, Field, List};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::{custom, types};

/// Where v3 documents keep their schemas.
pub(crate) const V3_PREFIX: &str = "#/components/schemas/";

pub(crate) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(crate) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(crate) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";
const ANYTHING: [&str; 4] = [
    "JSON",
    "JSONSchemaPropsOrArray",
    "JSONSchemaPropsOrBool",
    "JSONSchemaPropsOrStringArray",
];

/// Schemas by definition name.
pub(crate) type Definitions = BTreeMap<String, Value>;

/// The definition name of a kind, as in `io.k8s.api.apps.v1.Deployment`.
pub(crate) fn name(kind: &Kind) -> String {
    match kind.custom_schema() {
        Some(_) => custom::name(kind),
        None => schema::definition_name(kind.group(), kind.version(), kind.kind()),
    }
}

/// The definition name of a kind's lists.
pub(crate) fn list_name(kind: &Kind) -> String {
    let name = name(kind);
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    format!("{package}.{}", kind.list_kind())
}

/// The kinds of the table, and custom ones.
pub(crate) fn every(custom: &[Kind]) -> impl Iterator<Item = &Kind> {
    kinds::all().iter().chain(custom)
}

/// A group, version and kind as OpenAPI extensions say it.
pub(crate) fn group_version_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "kind": kind, "version": version})
}

/// All schemas, with Kubernetes' extensions.
pub(crate) fn all(custom: &[Kind]) -> Definitions {
    let mut settings = SchemaSettings::openapi3();
    settings.transforms.clear();
    let mut generator = settings.into_generator();
    types::add_all(&mut generator);
    let mut definitions: Definitions = generator.take_definitions(false).into_iter().collect();
    for (name, definition) in &mut definitions {
        polish(name, definition);
    }
    for kind in custom {
        if let Some(schema) = kind.custom_schema() {
            definitions.insert(name(kind), custom::definition(schema));
        }
    }
    for kind in every(custom) {
        definitions.insert(list_name(kind), list_schema(kind));
    }
    for (name, group_version_kinds) in identities(custom) {
        if let Some(definition) = definitions.get_mut(&name) {
            definition["x-kubernetes-group-version-kind"] = group_version_kinds.into();
        }
    }
    definitions
}

/// The names in a value's references and in those of what they refer to.
pub(crate) fn reachable(value: &Value, definitions: &Definitions) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut values = vec![value];
    while let Some(value) = values.pop() {
        match value {
            Value::Object(map) => {
                if let Some(name) = map
                    .get("$ref")
                    .and_then(Value::as_str)
                    .and_then(|r| r.strip_prefix(V3_PREFIX))
                    && found.insert(name.to_owned())
                {
                    values.extend(definitions.get(name));
                }
                values.extend(map.values());
            }
            Value::Array(list) => values.extend(list),
            _ => {}
        }
    }
    found
}

/// Which kinds a definition is the schema of.
fn identities(custom: &[Kind]) -> BTreeMap<String, Vec<Value>> {
    let mut identities: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut add = |definition: String, group: &str, version: &str, kind: &str| {
        let list = identities.entry(definition).or_default();
        let this = group_version_kind(group, version, kind);
        if !list.contains(&this) {
            list.push(this);
        }
    };
    for kind in every(custom) {
        add(name(kind), kind.group(), kind.version(), kind.kind());
        add(list_name(kind), kind.group(), kind.version(), &kind.list_kind());
        add(
            DELETE_OPTIONS.to_owned(),
            kind.group(),
            kind.version(),
            "DeleteOptions",
        );
    }
    add(STATUS.to_owned(), "", "v1", "Status");
    add("io.k8s.api.core.v1.Binding".to_owned(), "", "v1", "Binding");
    add(
        "io.k8s.api.autoscaling.v1.Scale".to_owned(),
        "autoscaling",
        "v1",
        "Scale",
    );
    add(
        "io.k8s.api.policy.v1.Eviction".to_owned(),
        "policy",
        "v1",
        "Eviction",
    );
    identities
}

fn list_schema(kind: &Kind) -> Value {
    let reference = |name: &str| format!("{V3_PREFIX}{name}");
    json!({
        "description": format!("{} is a list of {}.", kind.list_kind(), kind.plural()),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {
                "description": "The version of the API that this list is written in.",
                "type": "string",
            },
            "items": {
                "description": format!("The {}.", kind.plural()),
                "type": "array",
                "items": {"$ref": reference(&name(kind))},
            },
            "kind": {"description": kind.list_kind(), "type": "string"},
            "metadata": {
                "description": "The list's version, and where to go on when it isn't whole.",
                "allOf": [{"$ref": reference(LIST_META)}],
            },
        },
    })
}

/// Brings a generated schema into the form that Kubernetes publishes.
fn polish(name: &str, definition: &mut Value) {
    match name {
        INT_OR_STRING => {
            replace_type(definition, json!([{"type": "integer"}, {"type": "string"}]));
            definition["format"] = "int-or-string".into();
        }
        // What stands in schemas of kinds may be of several types, for which version 2 has no word.
        name if name
            .strip_prefix(APIEXTENSIONS)
            .is_some_and(|name| ANYTHING.contains(&name)) =>
        {
            if let Some(definition) = definition.as_object_mut() {
                definition.retain(|word, _| word == "description");
            }
        }
        QUANTITY => replace_type(definition, json!([{"type": "string"}, {"type": "number"}])),
        _ => {}
    }
    relax_required(name, definition);
    let known = schema::find(name);
    if known.is_some_and(|ty| ty.map_atomic) {
        definition["x-kubernetes-map-type"] = "atomic".into();
    }
    for (field, property) in definition
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        wrap_references(property);
        if let Some(facts) = known.and_then(|ty| ty.field(field)) {
            extend(property, facts);
        }
    }
}

/// References whose `name` may be left out, for which the crate's types have no word: there it is empty.
const NAMELESS: [&str; 8] = [
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "LocalObjectReference",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
];

/// The crate calls everything required that its types always hold. Kubernetes means what a client must
/// send, and clients refuse manifests by it.
fn relax_required(name: &str, definition: &mut Value) {
    let Some(required) = definition.get_mut("required").and_then(Value::as_array_mut) else {
        return;
    };
    let nameless = name
        .strip_prefix("io.k8s.api.core.v1.")
        .is_some_and(|name| NAMELESS.contains(&name));
    let event = name == "io.k8s.api.core.v1.Event";
    required.retain(|field| !(field == "metadata" && !event || field == "name" && nameless));
    if required.is_empty()
        && let Some(definition) = definition.as_object_mut()
    {
        definition.remove("required");
    }
}

/// The crate says `x-kubernetes-int-or-string`, the way CRDs do; built-in types list the alternatives.
fn replace_type(definition: &mut Value, alternatives: Value) {
    if let Some(definition) = definition.as_object_mut() {
        definition.remove("x-kubernetes-int-or-string");
        definition.insert("oneOf".to_owned(), alternatives);
    }
}

/// In OpenAPI v3 nothing may stand beside `$ref`, so a described reference is an `allOf` of one.
fn wrap_references(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    if map.len() > 1
        && let Some(reference) = map.remove("$ref")
    {
        map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = map.get_mut(nested) {
            wrap_references(nested);
        }
    }
}

/// What patches must know about a field.
fn extend(property: &mut Value, facts: &Field) {
    let Some(property) = property.as_object_mut() else {
        return;
    };
    let mut add = |extension: &str, value: Value| property.insert(format!("x-kubernetes-{extension}"), value);
    let strategy = match (facts.merges, facts.retain_keys) {
        (true, true) => Some("merge,retainKeys"),
        (true, false) => Some("merge"),
        (false, true) => Some("retainKeys"),
        (false, false) => None,
    };
    if let Some(strategy) = strategy {
        add("patch-strategy", strategy.into());
    }
    if let Some(key) = facts.merge_key {
        add("patch-merge-key", key.into());
    }
    match facts.list {
        Some(List::Atomic) => _ = add("list-type", "atomic".into()),
        Some(List::Set) => _ = add("list-type", "set".into()),
        Some(List::Map(keys)) => {
            add("list-type", "map".into());
            add("list-map-keys", keys.into());
        }
        None => {}
    }
    if facts.map_atomic {
        add("map-type", "atomic".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let definitions = all(&[]);
        for (name, definition) in &definitions {
            for target in reachable(definition, &definitions) {
                assert!(definitions.contains_key(&target), "{name} refers to {target}");
            }
        }
    }

    #[test]
    fn every_fact_about_merging_is_published() {
        let definitions = all(&[]);
        for ty in schema::types() {
            let definition = definitions
                .get(ty.name)
                .unwrap_or_else(|| panic!("no {}", ty.name));
            for field in ty.fields {
                let property = &definition["properties"][field.name];
                assert!(property.is_object(), "{} has no field {}", ty.name, field.name);
                let published = property["x-kubernetes-patch-merge-key"].as_str();
                assert_eq!(published, field.merge_key, "{}.{}", ty.name, field.name);
            }
        }
    }

    /// The type of a property, or of its elements or values.
    fn target(property: &Value) -> Option<&str> {
        let reference = property["$ref"]
            .as_str()
            .or(property["allOf"][0]["$ref"].as_str());
        match reference {
            Some(reference) => reference.strip_prefix(V3_PREFIX),
            None => ["items", "additionalProperties"]
                .into_iter()
                .filter_map(|nested| property.get(nested))
                .find_map(target),
        }
    }

    /// Whether server-side apply needs to know something about a type, or about one that it leads to. What lies
    /// in an atomic list or object doesn't matter: it is replaced whole.
    fn matters(name: &str, definitions: &Definitions, under_way: &mut Vec<String>) -> bool {
        if schema::find(name).is_some_and(|ty| ty.map_atomic) {
            return true;
        }
        if under_way.iter().any(|other| other == name) {
            return false;
        }
        under_way.push(name.to_owned());
        let properties = definitions[name]["properties"].as_object().into_iter().flatten();
        let outcome = properties.into_iter().any(|(field, property)| {
            let facts = schema::find(name).and_then(|ty| ty.field(field));
            facts
                .is_some_and(|facts| facts.map_atomic || matches!(facts.list, Some(List::Map(_) | List::Set)))
                || leads_on(facts, property, definitions, under_way)
        });
        under_way.pop();
        outcome
    }

    fn leads_on(
        facts: Option<&Field>,
        property: &Value,
        definitions: &Definitions,
        under_way: &mut Vec<String>,
    ) -> bool {
        let merges = property["type"] != "array"
            || facts.is_some_and(|facts| matches!(facts.list, Some(List::Map(_))));
        merges && target(property).is_some_and(|to| matters(to, definitions, under_way))
    }

    #[test]
    fn the_table_leads_to_every_fact_that_server_side_apply_needs() {
        let definitions = all(&[]);
        let mut missing = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut types: Vec<String> = kinds::all().iter().map(name).collect();
        while let Some(name) = types.pop() {
            let known = schema::find(&name);
            if known.is_some_and(|ty| ty.map_atomic) || !seen.insert(name.clone()) {
                continue;
            }
            for (field, property) in definitions[&name]["properties"].as_object().into_iter().flatten() {
                let known = known.and_then(|ty| ty.field(field));
                let Some(to) =
                    target(property).filter(|_| leads_on(known, property, &definitions, &mut Vec::new()))
                else {
                    continue;
                };
                match known.and_then(Field::ty) {
                    Some(ty) => assert_eq!(ty.name, to, "{name}.{field}"),
                    None => _ = missing.insert(format!("{name}: field({field:?}).of({to:?})")),
                }
                types.push(to.to_owned());
            }
        }
        let missing: Vec<_> = missing.into_iter().collect();
        assert!(
            missing.is_empty(),
            "add to patch's facts:\n{}",
            missing.join("\n")
        );
    }

    #[test]
    fn every_field_is_described() {
        for kind in kinds::all() {
            let definitions = all(&[]);
            let definition = &definitions[&name(kind)];
            assert!(definition["description"].is_string(), "{}", kind.kind());
            for (field, property) in definition["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{}.{field}", kind.kind());
            }
        }
    }

    #[test]
    fn only_what_a_client_must_send_is_required() {
        let definitions = all(&[]);
        assert_eq!(definitions["io.k8s.api.core.v1.Pod"].get("required"), None);
        assert_eq!(
            definitions["io.k8s.api.core.v1.SecretKeySelector"]["required"],
            json!(["key"])
        );
        assert_eq!(
            definitions["io.k8s.api.core.v1.PodSpec"]["required"],
            json!(["containers"])
        );
    }

    #[test]
    fn a_schema_of_a_kind_may_hold_anything() {
        let definitions = all(&[]);
        for name in ANYTHING {
            let definition = definitions[&format!("{APIEXTENSIONS}{name}")]
                .as_object()
                .unwrap();
            assert!(definition.keys().eq(["description"]), "{name}");
        }
    }

    #[test]
    fn containers_say_how_they_merge() {
        let definitions = all(&[]);
        let containers = &definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(
            containers["items"]["$ref"],
            "#/components/schemas/io.k8s.api.core.v1.Container"
        );
        let template = &definitions["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["template"];
        assert_eq!(
            template["allOf"][0]["$ref"],
            "#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"
        );
    }
}
