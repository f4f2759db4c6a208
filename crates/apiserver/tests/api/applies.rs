//! Server-side apply.

use serde_json::{Value, json};

use crate::support::{DEPLOYMENTS, Raw, Running, deployment};

pub(crate) fn config(data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data })
}

pub(crate) fn web(spec: Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": spec })
}

pub(crate) const A: &str = "/api/v1/namespaces/default/configmaps/a";
pub(crate) const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

/// The entry of a manager.
pub(crate) fn entry<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .expect("managedFields are there");
    entries
        .iter()
        .find(|entry| entry["manager"] == manager)
        .unwrap_or(&Value::Null)
}

pub(crate) fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let name = |entry: &Value| format!("{}:{}", entry["manager"], entry["operation"]).replace('"', "");
    entries.iter().map(name).collect()
}

#[tokio::test]
async fn applying_creates_changes_and_removes() {
    let raw = Running::start().await.raw();
    let created = raw.apply(A, "me", &config(json!({ "k": "1", "l": "1" }))).await;
    assert_eq!(created.code, 201, "{}", created.body);
    let mine = entry(&created.body, "me");
    assert_eq!(mine["operation"], "Apply");
    assert_eq!(
        (&mine["apiVersion"], &mine["fieldsType"]),
        (&json!("v1"), &json!("FieldsV1"))
    );
    assert_eq!(mine["fieldsV1"], json!({ "f:data": { "f:k": {}, "f:l": {} } }));
    assert!(mine["time"].is_string());

    let again = raw.apply(A, "me", &config(json!({ "k": "1", "l": "1" }))).await;
    assert_eq!((again.code, &again.body), (200, &created.body));

    let changed = raw.apply(A, "me", &config(json!({ "k": "2" }))).await;
    assert_eq!(changed.body["data"], json!({ "k": "2" }));
    // What others added stays, what nobody else owns goes.
    raw.patch(A, "merge", &json!({ "data": { "other": "x" } })).await;
    let empty = raw.apply(A, "me", &config(json!({}))).await;
    assert_eq!(empty.body["data"], json!({ "other": "x" }));
    assert_eq!(managers(&empty.body), ["me:Apply", "admin:Update"]);
}

#[tokio::test]
async fn two_appliers_share_what_they_agree_on_and_conflict_over_the_rest() {
    let raw = Running::start().await.raw();
    raw.apply(A, "one", &config(json!({ "k": "1", "l": "1" }))).await;
    let shared = raw.apply(A, "two", &config(json!({ "k": "1" }))).await;
    assert_eq!(managers(&shared.body), ["one:Apply", "two:Apply"]);
    // Given up by one, it stays: it's the other's.
    let given_up = raw.apply(A, "one", &config(json!({ "l": "1" }))).await;
    assert_eq!(given_up.body["data"], json!({ "k": "1", "l": "1" }));

    let refused = raw.apply(A, "two", &config(json!({ "k": "1", "l": "2" }))).await;
    assert_eq!(refused.code, 409);
    assert_eq!(
        refused.body,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409,
            "message": "Apply failed with 1 conflict: conflict with \"one\": .data.l",
            "reason": "Conflict",
            "details": { "causes": [
                { "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.l" },
            ] },
        })
    );
    let forced = raw
        .apply(A, "two&force=true", &config(json!({ "k": "1", "l": "2" })))
        .await;
    assert_eq!(forced.body["data"], json!({ "k": "1", "l": "2" }));
    assert_eq!(managers(&forced.body), ["two:Apply"]);
}

#[tokio::test]
async fn conflicts_name_all_managers_and_fields() {
    let raw = Running::start().await.raw();
    raw.apply(A, "one", &config(json!({ "k": "1", "l": "1" }))).await;
    let update = json!({ "data": { "m": "1" } });
    raw.patch(&format!("{A}?fieldManager=editor"), "merge", &update)
        .await;
    let refused = raw
        .apply(A, "two", &config(json!({ "k": "2", "l": "2", "m": "2" })))
        .await;
    assert_eq!(
        refused.message(),
        "Apply failed with 3 conflicts: conflicts with \"editor\" using v1:\n- .data.m\nconflicts with \"one\":\n- .data.k\n- .data.l"
    );
    assert_eq!(refused.body["details"]["causes"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn lists_merge_by_their_keys() {
    let raw = Running::start().await.raw();
    raw.post(DEPLOYMENTS, &deployment("web")).await;
    let containers = |containers: Value| {
        let labels = json!({ "app": "web" });
        web(
            json!({ "selector": { "matchLabels": labels }, "template": { "spec": { "containers": containers } } }),
        )
    };
    let side = json!([{ "name": "side", "image": "s", "ports": [{ "containerPort": 80 }] }]);
    let applied = raw.apply(WEB, "side", &containers(side)).await;
    assert_eq!(applied.code, 200, "{}", applied.body);
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap();
        list.iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&applied.body), ["c", "side"]);
    let mine = &entry(&applied.body, "side")["fieldsV1"]["f:spec"];
    assert_eq!(mine["f:selector"], json!({}));
    assert_eq!(
        mine["f:template"]["f:spec"]["f:containers"],
        json!({ "k:{\"name\":\"side\"}": {
            ".": {}, "f:name": {}, "f:image": {},
            "f:ports": { "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} } },
        } })
    );
    let gone = raw.apply(WEB, "side", &containers(json!([]))).await;
    assert_eq!(names(&gone.body), ["c"]);
    let twice = json!([{ "name": "x", "image": "i" }, { "name": "x", "image": "j" }]);
    let refused = raw.apply(WEB, "side", &containers(twice)).await;
    assert_eq!(refused.code, 500);
    assert_eq!(
        refused.message(),
        "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"x\"]"
    );
}

#[tokio::test]
async fn what_does_not_fit_the_kind_is_named() {
    let raw = Running::start().await.raw();
    let unknown =
        web(json!({ "foo": 1, "template": { "spec": { "containers": [{ "name": "c", "imagee": "i" }] } } }));
    let refused = raw.apply(WEB, "me", &unknown).await;
    assert_eq!((refused.code, &refused.body["reason"]), (500, &Value::Null));
    assert_eq!(
        refused.message(),
        "failed to create typed patch object (/web; apps/v1, Kind=Deployment): errors:\n  .spec.foo: field not declared in schema\n  .spec.template.spec.containers[name=\"c\"].imagee: field not declared in schema"
    );
    let wrong_type = raw.apply(WEB, "me", &web(json!({ "replicas": "x" }))).await;
    assert!(
        wrong_type.code == 500 && wrong_type.message().contains("spec.replicas"),
        "{}",
        wrong_type.message()
    );
    let mut version = web(json!({}));
    version["apiVersion"] = "apps/v2".into();
    let refused = raw.apply(WEB, "me", &version).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            400,
            "Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1"
        )
    );
    let invalid = raw.apply(WEB, "me", &web(json!({ "replicas": 1 }))).await;
    assert_eq!((invalid.code, &invalid.body["reason"]), (422, &json!("Invalid")));
}

#[tokio::test]
async fn parameters_and_body_are_checked() {
    let raw = Running::start().await.raw();
    let apply = [("content-type", "application/apply-patch+yaml")];
    let nameless = raw.send("PATCH", A, &apply, config(json!({})).to_string()).await;
    assert_eq!(
        (nameless.code, nameless.message()),
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
        )
    );
    let forced = raw.patch(&format!("{A}?force=true"), "merge", &json!({})).await;
    assert_eq!(
        (forced.code, forced.message()),
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
        )
    );
    let send = |body: &'static str, parameters: &'static str| {
        let path = format!("{A}?fieldManager=me{parameters}");
        let raw = &raw;
        async move { raw.send("PATCH", &path, &apply, body).await }
    };
    assert_eq!(send("a: [", "").await.code, 400);
    assert_eq!(send("- 1", "").await.code, 400);
    let owned = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, managedFields: []}}";
    assert_eq!(
        send(owned, "").await.message(),
        "metadata.managedFields must be nil"
    );
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: x, k: z}\n";
    let strict = send(twice, "&fieldValidation=Strict").await;
    assert_eq!(
        (strict.code, strict.message()),
        (
            400,
            "error strict decoding YAML: line 4: key \"k\" already set in map"
        )
    );
    let warned = send(twice, "").await;
    assert_eq!((warned.code, &warned.body["data"]["k"]), (201, &json!("z")));
    assert_eq!(
        warned.headers["warning"],
        "299 - \"line 4: key \\\"k\\\" already set in map\""
    );
    let other = "{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}";
    assert_eq!(send(other, "").await.code, 400);
}

#[tokio::test]
async fn versions_and_uids_in_a_configuration_are_insisted_on() {
    let raw = Running::start().await.raw();
    let with = |field: &str, value: &Value| {
        let mut config = config(json!({ "k": "2" }));
        config["metadata"][field] = value.clone();
        config
    };
    let no_such = raw.apply(A, "me", &with("uid", &json!("x"))).await;
    assert_eq!(no_such.code, 409, "{}", no_such.body);
    let created = raw.apply(A, "me", &config(json!({ "k": "1" }))).await.body;
    assert_eq!(raw.apply(A, "me", &with("uid", &json!("x"))).await.code, 409);
    assert_eq!(
        raw.apply(A, "me", &with("resourceVersion", &json!("1")))
            .await
            .code,
        409
    );
    let version = &created["metadata"]["resourceVersion"];
    assert_eq!(
        raw.apply(A, "me", &with("resourceVersion", version)).await.code,
        200
    );
}

#[tokio::test]
async fn a_dry_run_applies_nothing_and_shows_everything() {
    let raw = Running::start().await.raw();
    let dry = raw.apply(A, "me&dryRun=All", &config(json!({ "k": "1" }))).await;
    assert_eq!(
        (dry.code, managers(&dry.body)),
        (201, vec!["me:Apply".to_owned()])
    );
    assert_eq!(raw.get(A).await.code, 404);
    raw.apply(A, "me", &config(json!({ "k": "1" }))).await;
    let dry = raw.apply(A, "me&dryRun=All", &config(json!({ "k": "2" }))).await;
    assert_eq!(dry.body["data"]["k"], "2");
    assert_eq!(raw.get(A).await.body["data"]["k"], "1");
}

#[tokio::test]
async fn appliers_at_the_same_time_all_get_through() {
    let raw = Running::start().await.raw();
    let all = (0..16).map(|i| {
        let raw: &Raw = &raw;
        async move {
            let key = format!("k{i}");
            raw.apply(A, &format!("m{i}"), &config(json!({ key: "x" })))
                .await
                .code
        }
    });
    let codes = futures::future::join_all(all).await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 15, "{codes:?}");
    let object = raw.get(A).await.body;
    assert_eq!(object["data"].as_object().unwrap().len(), 16);
    assert_eq!(managers(&object).len(), 16);
}

#[tokio::test]
async fn kube_rs_applies() {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, Patch, PatchParams};
    let running = Running::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(running.over_tls("admin", "system:masters").await, "default");
    let apply = |value: &str| {
        let map: ConfigMap = serde_json::from_value(config(json!({ "k": value }))).unwrap();
        Patch::Apply(map)
    };
    let one = PatchParams::apply("one");
    let created = maps.patch("a", &one, &apply("1")).await.unwrap();
    let owners = created.metadata.managed_fields.unwrap();
    assert_eq!(owners[0].manager.as_deref(), Some("one"));
    let refused = maps
        .patch("a", &PatchParams::apply("two"), &apply("2"))
        .await
        .unwrap_err();
    let kube::Error::Api(status) = refused else {
        panic!("{refused}");
    };
    assert!(status.code == 409 && status.reason == "Conflict", "{status:?}");
    let forced = maps
        .patch("a", &PatchParams::apply("two").force(), &apply("2"))
        .await
        .unwrap();
    assert_eq!(forced.data.unwrap()["k"], "2");
}
