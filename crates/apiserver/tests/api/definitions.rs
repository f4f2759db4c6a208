//! CustomResourceDefinitions and the kinds that they make.

use serde_json::{Value, json};

use crate::support::{Raw, Running};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A definition of widgets with two versions, status and scale.
pub(crate) fn widgets() -> Value {
    let schema = json!({ "openAPIV3Schema": {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": { "type": "integer", "minimum": 1, "description": "How large it is." },
                    "colour": { "type": "string", "default": "red" },
                    "replicas": { "type": "integer" },
                    "parts": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                               "items": { "type": "object", "required": ["name"],
                                          "properties": { "name": { "type": "string" }, "weight": { "type": "integer" } } } },
                },
            },
            "status": { "type": "object", "properties": { "phase": { "type": "string" }, "replicas": { "type": "integer" }, "selector": { "type": "string" } } },
        },
    } });
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage, "schema": schema,
            "subresources": {
                "status": {},
                "scale": { "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector" },
            },
            "additionalPrinterColumns": [{ "name": "Size", "type": "integer", "jsonPath": ".spec.size" }],
            "selectableFields": [{ "jsonPath": ".spec.colour" }],
        })
    };
    let mut old = version("v1beta1", false);
    old["deprecated"] = true.into();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"] },
            "versions": [old, version("v1", true)],
        },
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name }, "spec": spec })
}

async fn with_widgets() -> (Running, Raw) {
    let running = Running::start().await;
    let raw = running.raw();
    let answer = raw.post(DEFINITIONS, &widgets()).await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    (running, raw)
}

/// Waits until a path leads nowhere.
async fn gone(raw: &Raw, path: &str) {
    for _ in 0..600 {
        if raw.get(path).await.code == 404 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{path} is still there");
}

#[tokio::test]
async fn a_definition_is_established_and_served_at_once() {
    let (_running, raw) = with_widgets().await;
    let definition = raw.get(&format!("{DEFINITIONS}/widgets.example.com")).await.body;
    assert_eq!(definition["status"]["conditions"][1]["type"], "Established");
    assert_eq!(definition["status"]["conditions"][1]["status"], "True");
    assert_eq!(definition["status"]["acceptedNames"]["listKind"], "WidgetList");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(raw.get(WIDGETS).await.body["kind"], "WidgetList");

    let group = raw.get("/apis/example.com").await.body;
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert_eq!(group["versions"][1]["version"], "v1beta1");
    let resources = raw.get("/apis/example.com/v1").await.body["resources"].clone();
    let names: Vec<_> = resources.as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["widgets", "widgets/scale", "widgets/status"]);
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )];
    let aggregated = raw.send("GET", "/apis", &accept, "").await.body;
    let groups = aggregated["items"].as_array().unwrap();
    let ours = groups
        .iter()
        .find(|group| group["metadata"]["name"] == "example.com")
        .unwrap();
    assert_eq!(ours["versions"][0]["resources"][0]["shortNames"], json!(["wd"]));

    let root = raw.get("/openapi/v3").await.body;
    assert!(root["paths"]["apis/example.com/v1"].is_object());
    let document = raw.get("/openapi/v3/apis/example.com/v1").await.body;
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["size"]["description"],
        "How large it is."
    );
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
    let v2 = raw.get("/openapi/v2").await.body;
    assert!(v2["definitions"]["com.example.v1.WidgetList"].is_object());
    assert!(v2["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"].is_object());
}

#[tokio::test]
async fn objects_are_pruned_defaulted_checked_and_counted() {
    let (_running, raw) = with_widgets().await;
    let answer = raw
        .post(WIDGETS, &widget("a", json!({ "size": 2, "shape": "round" })))
        .await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    assert_eq!(answer.body["spec"], json!({ "size": 2, "colour": "red" }));
    assert_eq!(
        answer.headers["warning"],
        r#"299 - "unknown field \"spec.shape\"""#
    );
    let strict = raw
        .post(
            &format!("{WIDGETS}?fieldValidation=Strict"),
            &widget("b", json!({ "size": 2, "shape": "round" })),
        )
        .await;
    assert_eq!(strict.code, 400);
    assert!(
        strict
            .message()
            .contains("strict decoding error: unknown field \"spec.shape\""),
        "{}",
        strict.message()
    );
    let invalid = raw.post(WIDGETS, &widget("b", json!({ "size": 0 }))).await;
    assert_eq!(
        (invalid.code, invalid.message()),
        (
            422,
            "Widget.example.com \"b\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"
        )
    );
    let path = format!("{WIDGETS}/a");
    let unconditional = raw.put(&path, &widget("a", json!({ "size": 3 }))).await;
    assert_eq!(unconditional.code, 422);
    assert!(
        unconditional
            .message()
            .ends_with("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
    );
    let merged = raw
        .patch(
            &path,
            "merge",
            &json!({ "spec": { "size": 3 }, "status": { "phase": "Sneaked" } }),
        )
        .await;
    assert_eq!(
        (&merged.body["metadata"]["generation"], &merged.body["status"]),
        (&json!(2), &Value::Null)
    );
    let status = raw
        .patch(
            &format!("{path}/status"),
            "merge",
            &json!({ "status": { "phase": "Ready" }, "spec": { "size": 9 } }),
        )
        .await;
    assert_eq!(
        (
            &status.body["metadata"]["generation"],
            &status.body["spec"]["size"]
        ),
        (&json!(2), &json!(3))
    );
    let json_patch = raw
        .patch(
            &path,
            "json",
            &json!([{ "op": "replace", "path": "/spec/colour", "value": "blue" }]),
        )
        .await;
    assert_eq!(json_patch.body["spec"]["colour"], "blue");
    let strategic = raw
        .patch(&path, "strategic-merge", &json!({ "spec": { "size": 4 } }))
        .await;
    assert_eq!(
        (strategic.code, strategic.body["reason"].as_str()),
        (415, Some("UnsupportedMediaType"))
    );
    let selected = raw
        .get(&format!("{WIDGETS}?fieldSelector=spec.colour%3Dblue"))
        .await;
    assert_eq!(selected.body["items"].as_array().unwrap().len(), 1);
    let scaled = raw
        .patch(
            &format!("{path}/scale"),
            "merge",
            &json!({ "spec": { "replicas": 4 } }),
        )
        .await;
    assert_eq!((scaled.code, &scaled.body["spec"]["replicas"]), (200, &json!(4)));
    assert_eq!(raw.get(&path).await.body["spec"]["replicas"], 4);
    let table = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table = raw.send("GET", WIDGETS, &table, "").await.body;
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3]));
}

#[tokio::test]
async fn every_version_shows_the_same_objects() {
    let (_running, raw) = with_widgets().await;
    assert_eq!(
        raw.post(WIDGETS, &widget("a", json!({ "size": 2 }))).await.code,
        201
    );
    let old = "/apis/example.com/v1beta1/namespaces/default/widgets";
    let answer = raw.get(&format!("{old}/a")).await;
    assert_eq!(answer.body["apiVersion"], "example.com/v1beta1");
    assert_eq!(
        answer.headers["warning"],
        r#"299 - "example.com/v1beta1 Widget is deprecated""#
    );
    assert_eq!(
        raw.get(old).await.body["items"][0]["apiVersion"],
        "example.com/v1beta1"
    );
    let patched = raw
        .patch(&format!("{old}/a"), "merge", &json!({ "spec": { "size": 5 } }))
        .await;
    assert_eq!(
        patched.body["apiVersion"], "example.com/v1beta1",
        "{}",
        patched.body
    );
    let new = raw.get(&format!("{WIDGETS}/a")).await.body;
    assert_eq!(
        (&new["apiVersion"], &new["spec"]["size"]),
        (&json!("example.com/v1"), &json!(5))
    );
    // What is added to the schema is there at once, in what was stored before.
    let mut definition = raw.get(&format!("{DEFINITIONS}/widgets.example.com")).await.body;
    let spec = &mut definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"]["finish"] = json!({ "type": "string", "default": "matt" });
    let answer = raw
        .put(&format!("{DEFINITIONS}/widgets.example.com"), &definition)
        .await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    assert_eq!(
        raw.get(&format!("{WIDGETS}/a")).await.body["spec"]["finish"],
        "matt"
    );
}

#[tokio::test]
async fn appliers_own_what_the_schema_says() {
    let (_running, raw) = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let parts = |name: &str, weight: i64| {
        widget(
            "a",
            json!({ "size": 1, "parts": [{ "name": name, "weight": weight }] }),
        )
    };
    assert_eq!(raw.apply(&path, "one", &parts("x", 1)).await.code, 201);
    let second = raw.apply(&path, "two", &parts("y", 2)).await;
    assert_eq!(second.code, 200, "{}", second.body);
    assert_eq!(
        second.body["spec"]["parts"],
        json!([{ "name": "x", "weight": 1 }, { "name": "y", "weight": 2 }])
    );
    let conflict = raw.apply(&path, "two", &parts("x", 3)).await;
    assert_eq!(
        (conflict.code, conflict.message()),
        (
            409,
            "Apply failed with 1 conflict: conflict with \"one\": .spec.parts[name=\"x\"].weight"
        )
    );
    let gone = raw.apply(&path, "one", &widget("a", json!({ "size": 1 }))).await;
    assert_eq!(gone.body["spec"]["parts"], json!([{ "name": "y", "weight": 2 }]));
    let unknown = raw
        .apply(&path, "one", &widget("a", json!({ "size": 1, "shape": "round" })))
        .await;
    assert!(
        unknown
            .message()
            .ends_with(".spec.shape: field not declared in schema"),
        "{}",
        unknown.message()
    );
    let before = raw.get(&path).await.body["metadata"]["resourceVersion"].clone();
    raw.apply(&path, "one", &widget("a", json!({ "size": 1 }))).await;
    assert_eq!(raw.get(&path).await.body["metadata"]["resourceVersion"], before);
}

#[tokio::test]
async fn a_definition_goes_after_its_objects() {
    let (_running, raw) = with_widgets().await;
    let mut held = widget("held", json!({ "size": 1 }));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(raw.post(WIDGETS, &held).await.code, 201);
    assert_eq!(
        raw.post(WIDGETS, &widget("free", json!({ "size": 1 })))
            .await
            .code,
        201
    );
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    let deleted = raw.delete(&definition, &Value::Null).await;
    assert_eq!(
        deleted.body["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    let refused = raw.post(WIDGETS, &widget("late", json!({ "size": 1 }))).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            405,
            "create not allowed while custom resource definition is terminating"
        )
    );
    gone(&raw, &format!("{WIDGETS}/free")).await;
    assert_eq!(raw.get(&definition).await.code, 200);
    let let_go = json!({ "metadata": { "finalizers": null } });
    assert_eq!(
        raw.patch(&format!("{WIDGETS}/held"), "merge", &let_go).await.code,
        200
    );
    gone(&raw, &definition).await;
    assert_eq!(raw.get(WIDGETS).await.code, 404);
    assert_eq!(raw.get("/apis/example.com").await.code, 404);
    assert_eq!(raw.post(DEFINITIONS, &widgets()).await.code, 201);
    assert_eq!(raw.get(WIDGETS).await.body["items"], json!([]));
}

#[tokio::test]
async fn two_definitions_do_not_share_a_name() {
    let (_running, raw) = with_widgets().await;
    let mut other = widgets();
    other["metadata"]["name"] = "gadgets.example.com".into();
    other["spec"]["names"] = json!({ "plural": "gadgets", "kind": "Gadget", "shortNames": ["wd"] });
    let answer = raw.post(DEFINITIONS, &other).await;
    assert_eq!(answer.code, 201);
    assert_eq!(
        answer.body["status"]["conditions"][0]["reason"],
        "ShortNamesConflict"
    );
    let gadgets = "/apis/example.com/v1/namespaces/default/gadgets";
    assert_eq!(raw.get(gadgets).await.code, 404);
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    raw.delete(&definition, &Value::Null).await;
    gone(&raw, &definition).await;
    for _ in 0..600 {
        if raw.get(gadgets).await.code == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the short name is still taken");
}

#[tokio::test]
async fn a_definition_is_the_same_as_protobuf() {
    let running = Running::start().await;
    let raw = running.raw();
    let headers = [
        ("content-type", "application/vnd.kubernetes.protobuf"),
        ("accept", "application/vnd.kubernetes.protobuf"),
    ];
    let answer = raw
        .send(
            "POST",
            DEFINITIONS,
            &headers,
            protobuf::encode(&widgets()).unwrap(),
        )
        .await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    let as_json = raw.get(&format!("{DEFINITIONS}/widgets.example.com")).await.body;
    assert_eq!(answer.body["spec"], as_json["spec"]);
    assert_eq!(
        as_json["spec"]["versions"][1]["schema"],
        widgets()["spec"]["versions"][1]["schema"]
    );
    // Their objects are JSON; a client that likes protobuf better gets that.
    let accept = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
    assert_eq!(
        raw.send("GET", WIDGETS, &accept, "").await.body["kind"],
        "WidgetList"
    );
    assert_eq!(
        raw.send(
            "GET",
            WIDGETS,
            &[("accept", "application/vnd.kubernetes.protobuf")],
            ""
        )
        .await
        .code,
        406
    );
}
