//! Kinds that CustomResourceDefinitions make.

use kinds::Kind;
use serde_json::{Value, json};

/// 2024-01-01T00:00:00Z.
const NOW: i64 = 1_704_067_200;

/// A definition of widgets with versions, established.
fn definition(versions: Value) -> Value {
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com", "generation": 1 },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
                       "shortNames": ["wd"], "categories": ["all"] },
            "versions": versions,
        },
        "status": {},
    });
    kinds::settle_definition(&mut definition, &[], "2024-01-01T00:00:00Z");
    definition
}

fn version(name: &str, storage: bool, spec: Value) -> Value {
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } },
    })
}

fn kind(spec: Value) -> Kind {
    kinds::kinds_of(&definition(json!([version("v1", true, spec)]))).remove(0)
}

fn widget(spec: Value) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": { "name": "w", "namespace": "default", "creationTimestamp": "2023-12-31T23:55:00Z" },
        "spec": spec,
    })
}

fn complaints(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    kind.validate(new, old).iter().map(ToString::to_string).collect()
}

#[test]
fn an_established_definition_makes_a_kind_for_each_served_version_preferred_first() {
    let spec = json!({ "type": "object" });
    let mut versions = json!([
        version("v1beta1", false, spec.clone()),
        version("v2alpha1", false, spec.clone()),
        version("v1", true, spec.clone()),
        version("v0", false, spec.clone()),
    ]);
    versions[3]["served"] = false.into();
    let definition = definition(versions);
    let made = kinds::kinds_of(&definition);
    let names: Vec<_> = made.iter().map(Kind::version).collect();
    assert_eq!(names, ["v1", "v1beta1", "v2alpha1"]);
    assert_eq!(
        (made[0].singular(), made[0].short_names(), made[0].categories()),
        ("widget", vec!["wd"], vec!["all"])
    );
    let mut waiting = definition;
    waiting["status"]["conditions"] = json!([]);
    assert!(kinds::kinds_of(&waiting).is_empty());
}

#[test]
fn names_go_to_who_came_first_and_are_free_when_it_is_gone() {
    let first = definition(json!([version("v1", true, json!({ "type": "object" }))]));
    let mut second = first.clone();
    second["metadata"]["name"] = "gadgets.example.com".into();
    second["spec"]["names"] = json!({ "plural": "gadgets", "singular": "gadget", "kind": "Widget", "listKind": "GadgetList", "shortNames": ["wd"] });
    second["status"] = json!({});
    kinds::settle_definition(&mut second, &[first], "2024-01-01T00:00:01Z");
    assert_eq!(
        second["status"]["conditions"],
        json!([
            { "type": "NamesAccepted", "status": "False", "reason": "KindConflict",
              "message": "\"Widget\" is already in use", "lastTransitionTime": "2024-01-01T00:00:01Z", "observedGeneration": 1 },
            { "type": "Established", "status": "False", "reason": "NotAccepted",
              "message": "not all names are accepted", "lastTransitionTime": "2024-01-01T00:00:01Z", "observedGeneration": 1 },
        ])
    );
    assert_eq!(second["status"]["acceptedNames"]["kind"], "");
    assert!(kinds::kinds_of(&second).is_empty());
    kinds::settle_definition(&mut second, &[], "2024-01-01T00:00:02Z");
    assert_eq!(second["status"]["conditions"][1]["status"], "True");
    assert_eq!(second["status"]["acceptedNames"], second["spec"]["names"]);
    let settled = second.clone();
    kinds::settle_definition(&mut second, &[], "2024-01-01T00:00:03Z");
    assert_eq!(second, settled);
}

#[test]
fn what_the_schema_does_not_know_is_dropped_and_named() {
    let kind = kind(json!({
        "type": "object",
        "properties": {
            "size": { "type": "integer" },
            "list": { "type": "array", "items": { "type": "object", "properties": { "a": { "type": "string" } } } },
            "any": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                     "properties": { "known": { "type": "object", "properties": { "a": { "type": "string" } } } } },
            "map": { "type": "object", "additionalProperties": { "type": "object", "properties": { "a": { "type": "string" } } } },
            "pod": { "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true },
        },
    }));
    let mut object = widget(json!({
        "size": 1, "colour": "red",
        "list": [{ "a": "x" }, { "b": 1, "a": "y" }],
        "any": { "what": { "ever": 1 }, "known": { "a": "x", "b": 1 } },
        "map": { "k": { "a": "x", "b": 1 } },
        "pod": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "colour": "red" }, "spec": { "x": 1 } },
    }));
    object["metadata"]["colour"] = "red".into();
    object["other"] = 1.into();
    let decoded = kind.decode(&object).unwrap();
    let mut unknown = decoded.unknown;
    unknown.sort();
    assert_eq!(
        unknown,
        [
            "metadata.colour",
            "other",
            "spec.any.known.b",
            "spec.colour",
            "spec.list[1].b",
            "spec.map.k.b",
            "spec.pod.metadata.colour"
        ]
    );
    assert_eq!(
        decoded.object["spec"],
        json!({
            "size": 1,
            "list": [{ "a": "x" }, { "a": "y" }],
            "any": { "what": { "ever": 1 }, "known": { "a": "x" } },
            "map": { "k": { "a": "x" } },
            "pod": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "x": 1 } },
        })
    );
    object["metadata"]["labels"] = 7.into();
    assert!(kind.decode(&object).is_err());
}

#[test]
fn defaults_are_filled_in_and_nulls_mean_nothing_unless_they_are_allowed() {
    let kind = kind(json!({
        "type": "object",
        "properties": {
            "size": { "type": "integer", "default": 3 },
            "ports": { "type": "array", "default": [], "items": { "type": "object", "properties": { "protocol": { "type": "string", "default": "TCP" } } } },
            "deep": { "type": "object", "default": {}, "properties": { "a": { "type": "string", "default": "x" } } },
            "maybe": { "type": "string", "nullable": true },
            "never": { "type": "string" },
        },
    }));
    let filled = |spec| {
        let mut object = widget(spec);
        kind.default(&mut object);
        let once = object.clone();
        kind.default(&mut object);
        assert_eq!(object, once);
        object["spec"].clone()
    };
    assert_eq!(
        filled(json!({})),
        json!({ "size": 3, "ports": [], "deep": { "a": "x" } })
    );
    assert_eq!(
        filled(
            json!({ "size": null, "maybe": null, "never": null, "ports": [{}, { "protocol": "UDP" }], "deep": { "a": "y" } })
        ),
        json!({ "size": 3, "maybe": null, "ports": [{ "protocol": "TCP" }, { "protocol": "UDP" }], "deep": { "a": "y" } })
    );
}

#[test]
fn objects_are_checked_in_kubernetes_words() {
    let kind = kind(json!({
        "type": "object",
        "required": ["name", "size"],
        "properties": {
            "name": { "type": "string", "pattern": "^[a-z]+$", "maxLength": 5 },
            "size": { "type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 2 },
            "ratio": { "type": "number", "exclusiveMinimum": true, "minimum": 0 },
            "mode": { "type": "string", "enum": ["fast", "slow"] },
            "port": { "x-kubernetes-int-or-string": true },
            "ip": { "type": "string", "format": "ipv4" },
            "list": { "type": "array", "minItems": 1, "maxItems": 2, "items": { "type": "string", "minLength": 2 } },
            "set": { "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } },
            "map": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                     "items": { "type": "object", "properties": { "k": { "type": "string" } }, "required": ["k"] } },
            "one": { "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
                     "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] },
            "pod": { "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true },
        },
    }));
    let says = |spec: Value, expected: &[&str]| {
        let mut whole = json!({ "name": "abc", "size": 2 });
        whole
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        assert_eq!(complaints(&kind, &widget(whole), None), expected, "{spec}");
    };
    says(
        json!({ "ratio": 0.5, "port": "http", "list": ["ab"], "set": ["a"], "one": { "a": "x" } }),
        &[],
    );
    says(
        json!({ "size": 1.0, "ratio": 1 }),
        &["spec.size: Invalid value: 1.0: spec.size in body should be a multiple of 2"],
    );
    says(
        json!({ "size": "2" }),
        &[r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#],
    );
    says(
        json!({ "size": 11 }),
        &[
            "spec.size: Invalid value: 11: spec.size in body should be a multiple of 2",
            "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10",
        ],
    );
    says(
        json!({ "ratio": 0 }),
        &["spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0"],
    );
    says(
        json!({ "name": "ABCDEF" }),
        &[
            "spec.name: Too long: may not be more than 5 bytes",
            r#"spec.name: Invalid value: "ABCDEF": spec.name in body should match '^[a-z]+$'"#,
        ],
    );
    says(
        json!({ "mode": "medium" }),
        &[r#"spec.mode: Unsupported value: "medium": supported values: "fast", "slow""#],
    );
    says(
        json!({ "port": true }),
        &[
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
        ],
    );
    says(
        json!({ "ip": "x" }),
        &[r#"spec.ip: Invalid value: "x": spec.ip in body must be of type ipv4: "x""#],
    );
    says(
        json!({ "list": [] }),
        &["spec.list: Invalid value: 0: spec.list in body should have at least 1 items"],
    );
    says(
        json!({ "list": ["ab", "c", "de"] }),
        &[
            r#"spec.list[1]: Invalid value: "c": spec.list[1] in body should be at least 2 chars long"#,
            "spec.list: Too many: 3: must have at most 2 items",
        ],
    );
    says(
        json!({ "set": ["a", "b", "a", "a"] }),
        &[r#"spec.set[2]: Duplicate value: "a""#],
    );
    says(
        json!({ "map": [{ "k": "a" }, { "k": "a" }] }),
        &[r#"spec.map[1]: Duplicate value: {"k":"a"}"#],
    );
    says(
        json!({ "one": { "a": "x", "b": "y" } }),
        &[
            r#"<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ],
    );
    says(
        json!({ "pod": { "kind": "Pod_" } }),
        &[
            "spec.pod.apiVersion: Required value",
            "spec.pod.kind: Invalid value: \"Pod_\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    assert_eq!(
        complaints(&kind, &widget(json!({})), None),
        ["spec.name: Required value", "spec.size: Required value"]
    );
}

#[test]
fn an_update_may_leave_what_is_wrong_as_it_was() {
    let strict = json!({ "type": "object", "properties": {
        "a": { "type": "string", "maxLength": 1 }, "b": { "type": "string", "maxLength": 1 },
        "map": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                 "items": { "type": "object", "properties": { "k": { "type": "string" }, "v": { "type": "integer", "maximum": 1 } } } },
    } });
    let kind = kind(strict);
    let old =
        widget(json!({ "a": "long", "b": "long", "map": [{ "k": "x", "v": 2 }, { "k": "y", "v": 2 }] }));
    let new =
        widget(json!({ "a": "long", "b": "longer", "map": [{ "k": "y", "v": 2 }, { "k": "x", "v": 3 }] }));
    assert_eq!(
        complaints(&kind, &new, Some(&old)),
        [
            "spec.b: Too long: may not be more than 1 bytes",
            "spec.map[1].v: Invalid value: 3: spec.map[1].v in body should be less than or equal to 1",
        ]
    );
}

#[test]
fn printer_columns_show_what_their_paths_lead_to() {
    let mut version = version(
        "v1",
        true,
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
    );
    version["additionalPrinterColumns"] = json!([
        { "name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How large." },
        { "name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status" },
        { "name": "Made", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
        { "name": "Ports", "type": "string", "jsonPath": ".spec.ports", "priority": 1 },
        { "name": "On", "type": "boolean", "jsonPath": ".spec.on" },
        { "name": "None", "type": "string", "jsonPath": ".spec.none" },
        { "name": "When", "type": "date", "jsonPath": ".spec.when" },
    ]);
    let kind = kinds::kinds_of(&definition(json!([version]))).remove(0);
    let mut object = widget(json!({ "size": 3, "ports": [1, 2], "on": true, "when": "soon" }));
    object["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
    assert_eq!(
        kind.row(&object, NOW),
        [
            json!("w"),
            json!(3),
            json!("True"),
            json!("5m"),
            json!("[1,2]"),
            json!(true),
            Value::Null,
            json!("<invalid>")
        ]
    );
    let columns = kind.columns();
    assert_eq!(
        (columns[1].name, columns[1].kind, columns[1].description),
        ("Size", "integer", "How large.")
    );
    assert_eq!(columns[4].priority, 1);
    let plain = self::kind(json!({ "type": "object" }));
    assert_eq!(plain.row(&object, NOW), [json!("w"), json!("5m")]);
}

#[test]
fn objects_are_kept_in_one_version_and_read_in_all() {
    let definition = definition(json!([
        version(
            "v1",
            false,
            json!({ "type": "object", "properties": { "a": { "type": "string" } } })
        ),
        version(
            "v2",
            true,
            json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string", "default": "x" } } })
        ),
    ]));
    let made = kinds::kinds_of(&definition);
    let (v2, v1) = (&made[0], &made[1]);
    let kept = v1.write_kept(widget(json!({ "a": "y" })));
    assert_eq!(
        (&kept["apiVersion"], &kept["spec"]),
        (&json!("example.com/v2"), &json!({ "a": "y" }))
    );
    assert_eq!(v2.read_kept(kept.clone())["spec"], json!({ "a": "y", "b": "x" }));
    let old = v1.read_kept(kept);
    assert_eq!(
        (&old["apiVersion"], &old["spec"]),
        (&json!("example.com/v1"), &json!({ "a": "y" }))
    );
    assert_eq!(kinds::kept_kind_of(&definition).unwrap().version(), "v2");
}

#[test]
fn a_status_of_its_own_makes_no_generation() {
    let mut with_status = version(
        "v1",
        true,
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
    );
    with_status["subresources"] = json!({ "status": {}, "scale": { "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" } });
    let with_status = kinds::kinds_of(&definition(json!([with_status]))).remove(0);
    let without = kind(json!({ "type": "object" }));
    let old = widget(json!({ "replicas": 1 }));
    let mut new = old.clone();
    new["status"] = json!({ "replicas": 1 });
    assert!(!with_status.is_new_generation(&new, &old));
    assert!(without.is_new_generation(&new, &old));
    assert_eq!(with_status.scale().unwrap().spec_replicas, "/spec/replicas");
    new["spec"]["replicas"] = json!(-1);
    assert_eq!(
        complaints(&with_status, &new, None),
        [".spec.replicas: Invalid value: -1: should be a non-negative integer"]
    );
}

proptest::proptest! {
    #[test]
    fn nothing_that_clients_send_panics(text in r#"[\[\]{}",:a-c0-9.-]{0,40}"#) {
        let Ok(value) = serde_json::from_str::<Value>(&text) else { return Ok(()) };
        let mut schema = value.clone();
        if !schema.is_object() {
            schema = json!({ "type": "object" });
        }
        let definition = definition(json!([version("v1", true, schema)]));
        let crd = kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
        let _ = crd.validate(&definition, None);
        for kind in kinds::kinds_of(&definition) {
            let mut object = widget(value.clone());
            let _ = kind.decode(&object);
            kind.default(&mut object);
            let _ = kind.validate(&object, None);
            let _ = kind.row(&object, NOW);
        }
    }
}
