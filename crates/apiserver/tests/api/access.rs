//! Who gets in, and how far.

use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, PODS, Raw, Running, config_map, pod};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

fn node(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

#[tokio::test]
async fn nobody_known_sees_health_and_version_alone() {
    let running = Running::start().await;
    let raw = Raw(running.stranger());
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(raw.get(path).await.code, 200, "{path}");
    }
    for path in ["/api", "/apis", "/openapi/v2", PODS, "/nope"] {
        let refused = raw.get(path).await;
        assert_eq!(
            (refused.code, &refused.body["reason"]),
            (403, &json!("Forbidden")),
            "{path}"
        );
    }
    assert_eq!(
        raw.get(PODS).await.message(),
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        raw.get("/apis").await.message(),
        "forbidden: User \"system:anonymous\" cannot get path \"/apis\""
    );
}

#[tokio::test]
async fn a_certificate_says_who_asks() {
    let running = Running::start().await;
    let raw = Raw(running.over_tls("jane", "dev").await);
    let review = raw
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}))
        .await;
    assert_eq!(review.code, 201);
    assert_eq!(
        review.body["status"]["userInfo"],
        json!({ "username": "jane", "groups": ["dev", "system:authenticated"] })
    );
    assert_eq!(
        Raw(running.over_tls("admin", "system:masters").await)
            .get(PODS)
            .await
            .code,
        200
    );
}

#[tokio::test]
async fn anybody_else_sees_what_is_served_and_no_more() {
    let running = Running::start().await;
    let raw = Raw(running.client("jane", "dev"));
    for path in ["/api", "/apis/apps/v1", "/openapi/v3"] {
        assert_eq!(raw.get(path).await.code, 200, "{path}");
    }
    let refused = raw.get(PODS).await;
    assert_eq!(
        (refused.code, &refused.body["reason"]),
        (403, &json!("Forbidden"))
    );
    assert_eq!(
        refused.message(),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let question = json!({ "spec": { "resourceAttributes": { "verb": "list", "resource": "pods" } } });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(raw.post(path, &question).await.body["status"]["allowed"], false);
    let admin = running.raw().post(path, &question).await;
    assert_eq!(admin.body["status"]["allowed"], true);
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let no_table = raw.send("POST", path, &table, question.to_string()).await;
    assert_eq!(
        (no_table.code, &no_table.body["reason"]),
        (406, &json!("NotAcceptable"))
    );
    // Asking about others is an administrator's right.
    let other = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(raw.post(other, &question).await.code, 403);
}

#[tokio::test]
async fn a_node_writes_about_itself_alone() {
    let running = Running::start().await;
    let raw = Raw(running.client("system:node:n1", "system:nodes"));
    assert_eq!(raw.post("/api/v1/nodes", &node("n1")).await.code, 201);
    assert_eq!(raw.post("/api/v1/nodes", &node("n2")).await.code, 403);
    running.raw().post("/api/v1/nodes", &node("n2")).await;
    let status = json!({ "status": { "phase": "Running" } });
    for (name, code) in [("n1", 200), ("n2", 403)] {
        let path = format!("/api/v1/nodes/{name}/status");
        assert_eq!(
            raw.patch(&path, "strategic-merge", &status).await.code,
            code,
            "{name}"
        );
        let lease = json!({ "metadata": { "name": name }, "spec": { "holderIdentity": name } });
        let code = if code == 200 { 201 } else { code };
        assert_eq!(raw.post(LEASES, &lease).await.code, code, "{name}");
    }
    assert_eq!(raw.get("/api/v1/nodes").await.code, 200);
    assert_eq!(raw.delete("/api/v1/nodes/n1", &Value::Null).await.code, 403);
    assert_eq!(raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await.code, 403);
    let event = json!({
        "metadata": { "name": "e" }, "involvedObject": { "kind": "Node", "name": "n1" }, "reason": "Starting",
    });
    assert_eq!(
        raw.post("/api/v1/namespaces/default/events", &event).await.code,
        201
    );
}

#[tokio::test]
async fn a_node_writes_about_its_own_pods_alone() {
    let running = Running::start().await;
    let admin = running.raw();
    for (name, node) in [("mine", "n1"), ("other", "n2")] {
        admin.post(PODS, &pod(name, &["c"])).await;
        let target = json!({ "target": { "name": node } });
        admin.post(&format!("{PODS}/{name}/binding"), &target).await;
    }
    let raw = Raw(running.client("system:node:n1", "system:nodes"));
    let status = json!({ "status": { "phase": "Running" } });
    for (name, code) in [("mine", 200), ("other", 403)] {
        let path = format!("{PODS}/{name}");
        assert_eq!(raw.get(&path).await.code, 200, "{name}");
        let patched = raw.patch(&format!("{path}/status"), "merge", &status).await;
        assert_eq!(patched.code, code, "{name}");
        let deleted = raw.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await;
        assert_eq!(deleted.code, code, "{name}");
    }
    assert_eq!(raw.post(PODS, &pod("new", &["c"])).await.code, 403);
    assert_eq!(raw.delete(PODS, &Value::Null).await.code, 403);
}

#[tokio::test]
async fn a_node_reads_only_the_secrets_that_its_pods_use() {
    let running = Running::start().await;
    let admin = running.raw();
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["used", "unused"] {
        admin
            .post(secrets, &json!({ "metadata": { "name": name } }))
            .await;
    }
    let mut wanted = pod("p", &["c"]);
    wanted["spec"]["volumes"] = json!([{ "name": "v", "secret": { "secretName": "used" } }]);
    admin.post(PODS, &wanted).await;
    let raw = Raw(running.client("system:node:n1", "system:nodes"));
    assert_eq!(raw.get(&format!("{secrets}/used")).await.code, 403);
    admin
        .post(
            &format!("{PODS}/p/binding"),
            &json!({ "target": { "name": "n1" } }),
        )
        .await;
    assert_eq!(raw.get(&format!("{secrets}/used")).await.code, 200);
    assert_eq!(raw.get(&format!("{secrets}/unused")).await.code, 403);
    assert_eq!(raw.get(secrets).await.code, 403);
    let by_name = format!("{secrets}?fieldSelector=metadata.name%3Dused");
    assert_eq!(raw.get(&by_name).await.code, 200);
}
