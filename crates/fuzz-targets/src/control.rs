//! Bytes that clients of the API server send.

use patch::apply::{self, Author, Managers, Scope, Shape};
use quantity::Quantity;
use serde::Deserialize;
use serde_json::{Value, json};

/// Objects, lists and watch events as protobuf. What is read can be written, and is the same then.
pub(crate) fn protobuf(input: &[u8]) {
    let mut stream = input;
    while let Ok(Some(_)) = protobuf::decode_event(&mut stream) {}
    let Ok(object) = protobuf::decode(input, Some(("v1", "Pod"))) else {
        return;
    };
    let bytes = protobuf::encode(&object).expect("what was read can be written");
    let again = protobuf::decode(&bytes, None).expect("what was written can be read");
    assert_eq!(again, object);
}

/// An amount, as the server, the scheduler and the kubelet read it.
pub(crate) fn quantity(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let Ok(quantity) = Quantity::parse(text) else {
        return;
    };
    let canonical = quantity.canonical();
    let again = Quantity::parse(&canonical).expect("what is written can be read");
    assert_eq!(again, quantity, "{canonical} is as much");
    assert_eq!(again.canonical(), canonical);
    let (millis, units) = (quantity.millis(), quantity.units());
    let is_least = millis == i64::MIN;
    assert!(
        is_least || i128::from(units) * 1000 >= i128::from(millis),
        "both are rounded up"
    );
    assert_eq!(quantity.round_up_to_millis().millis(), millis);
}

#[derive(Deserialize)]
struct Patched {
    object: Value,
    patch: Value,
}

/// The three patches, on any object.
pub(crate) fn patch(input: &[u8]) {
    let Ok(Patched { object, patch }) = serde_json::from_slice(input) else {
        return;
    };
    let merged = patch::merge(&object, &patch);
    assert_eq!(
        patch::merge(&merged, &patch),
        merged,
        "a merge patch says what is to be"
    );
    let _ = patch::json(&object, &patch);
    if let Ok(changed) = patch::strategic(&object, &patch) {
        let _ = patch::strategic(&changed, &patch);
    }
}

#[derive(Deserialize)]
struct Applied {
    /// What is there, with its managers.
    live: Option<Value>,
    /// What one of them applies, or puts in its place.
    configuration: Value,
    #[serde(default)]
    force: bool,
    /// Of a kind that a definition makes.
    schema: Option<Value>,
}

/// Server-side apply, and updates that note their fields. Applying twice is applying once.
pub(crate) fn apply(input: &[u8]) {
    let Ok(Applied {
        mut live,
        configuration,
        force,
        schema,
    }) = serde_json::from_slice(input)
    else {
        return;
    };
    let text = |field: &str| configuration[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    let shape = match &schema {
        Some(schema) => Shape::of_schema(schema),
        None => Shape::of(group, version, text("kind")),
    };
    let entries = live
        .as_mut()
        .and_then(|live| live.get_mut("metadata")?.as_object_mut()?.remove("managedFields"));
    let managers = entries.and_then(|entries| Managers::from_json(&entries));
    let managers = managers.unwrap_or_default();
    let written = managers.to_json();
    assert_eq!(Managers::from_json(&written).as_ref(), Some(&managers));
    let author = Author {
        name: "fuzz",
        api_version: text("apiVersion"),
        subresource: "",
        scope: Scope::NotStatus,
        now: "2026-01-01T00:00:00Z",
    };
    if let Some(live) = &live {
        let _ = apply::update(shape, live, &configuration, managers.clone(), &author);
    }
    let Ok(once) = apply::apply(shape, live.as_ref(), &configuration, managers, &author, force) else {
        return;
    };
    let twice = apply::apply(
        shape,
        Some(&once.object),
        &configuration,
        once.managers.clone(),
        &author,
        false,
    );
    let twice = twice.expect("what was applied can be applied again");
    assert_eq!(twice.object, once.object);
    assert!(twice.managers.same_owners(&once.managers));
}

#[derive(Deserialize)]
struct Defined {
    schema: Value,
    #[serde(default)]
    object: Value,
    /// As it was before.
    old: Option<Value>,
    /// Further parts of the version: columns, subresources, selectable fields.
    #[serde(default)]
    version: serde_json::Map<String, Value>,
}

/// A definition's schema with its rules, and an object of the kind that it makes.
pub(crate) fn definition(input: &[u8]) {
    if let Ok(defined) = serde_json::from_slice::<Defined>(input)
        && let Some(kind) = kind(defined.schema, defined.version)
    {
        check(&kind, &defined.object, defined.old.as_ref());
    }
}

/// The kind that a schema makes, if it may.
fn kind(schema: Value, mut version: serde_json::Map<String, Value>) -> Option<kinds::Kind> {
    version.insert("name".into(), "v1".into());
    version.insert("served".into(), true.into());
    version.insert("storage".into(), true.into());
    version.insert("schema".into(), json!({ "openAPIV3Schema": schema }));
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "versions": [version],
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
        },
    });
    let definitions = kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions")?;
    let mut definition = definitions.decode(&object).ok()?.object;
    definitions.default(&mut definition);
    if !definitions.validate(&definition, None).is_empty() {
        return None;
    }
    kinds::settle_definition(&mut definition, &[], "2026-01-01T00:00:00Z");
    kinds::kinds_of(&definition).pop()
}

/// An object of such a kind, from reading to printing.
fn check(kind: &kinds::Kind, object: &Value, old: Option<&Value>) {
    let read = |object: &Value| {
        let mut object = kind.decode(object).ok()?.object;
        kind.default(&mut object);
        Some(object)
    };
    let Some(object) = read(object) else { return };
    assert_eq!(
        read(&object).as_ref(),
        Some(&object),
        "defaults are complete the first time"
    );
    let old = old.and_then(read);
    kind.validate(&object, old.as_ref());
    kind.row(&object, 1_767_225_600);
    for (_, field) in kind.fields() {
        field.text(&object);
    }
    if let Some(before) = &old {
        kind.is_new_generation(&object, before);
    }
    kind.read_kept(kind.write_kept(object));
}

/// A rule, on an object with a field of every type, and the same text as the expression of a message. What may be
/// in a definition can be run.
pub(crate) fn rule(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let rules = [
        json!([{ "rule": text, "message": "no" }]),
        json!([{ "rule": "self.count == oldSelf.count", "messageExpression": text }]),
    ];
    for rules in rules {
        if let Some(kind) = kind(every_type(rules), serde_json::Map::new()) {
            check(&kind, &widget(5), Some(&widget(6)));
        }
    }
}

fn every_type(rules: Value) -> Value {
    let text = json!({ "type": "string", "maxLength": 16 });
    json!({ "type": "object", "properties": { "spec": {
        "type": "object",
        "x-kubernetes-validations": rules,
        "properties": {
            "flag": { "type": "boolean" }, "count": { "type": "integer" }, "share": { "type": "number" },
            "name": text, "when": { "type": "string", "format": "date-time" },
            "long": { "type": "string", "format": "duration" },
            "raw": { "type": "string", "format": "byte", "maxLength": 64 },
            "any": { "x-kubernetes-int-or-string": true },
            "names": { "type": "array", "maxItems": 8, "items": text },
            "numbers": { "type": "array", "maxItems": 8, "items": { "type": "integer" } },
            "ports": { "type": "array", "maxItems": 8, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": { "type": "object", "required": ["name"], "properties": {
                    "name": text, "port": { "type": "integer" } } } },
            "labels": { "type": "object", "maxProperties": 8, "additionalProperties": text },
            "inner": { "type": "object", "properties": { "namespace": text, "a-b.c": { "type": "integer" } } },
            "quantity": text,
        },
    } } })
}

fn widget(count: i64) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "w" },
        "spec": {
            "flag": true, "count": count, "share": 0.25, "name": "web1", "when": "2024-02-29T12:00:00Z",
            "long": "90m", "raw": "aGVsbG8=", "any": "5", "names": ["a", "b", "c"], "numbers": [1, 2, 3],
            "ports": [{ "name": "http", "port": 80 }, { "name": "https", "port": 443 }],
            "labels": { "app": "web" }, "inner": { "namespace": "x", "a-b.c": 7 }, "quantity": "2Gi",
        },
    })
}
