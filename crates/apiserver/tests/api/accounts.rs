//! What pods get with their ServiceAccount, and what nodes may ask for on their behalf.

use serde_json::{Value, json};

use crate::support::{ACCOUNTS, PODS, Raw, Running, pod};

const LIST: &str = "/volumeMounts";

fn node(running: &Running, name: &str) -> Raw {
    Raw(running.client(&format!("system:node:{name}"), "system:nodes"))
}

async fn bind(running: &Running, pod: &str, node: &str) {
    let target = json!({ "target": { "name": node } });
    let path = format!("{PODS}/{pod}/binding");
    assert_eq!(running.raw().post(&path, &target).await.code, 201);
}

#[tokio::test]
async fn a_pod_gets_a_token_where_programs_look_for_it() {
    let running = Running::with_tokens().await;
    let made = running.raw().post(PODS, &pod("p", &["a", "b"])).await.body;
    let volume = &made["spec"]["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-"), "{name}");
    assert_eq!(
        volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
        3607
    );
    for container in made["spec"]["containers"].as_array().unwrap() {
        let mount = container.pointer(&format!("{LIST}/0")).unwrap();
        assert_eq!(mount["name"], name);
        assert_eq!(
            mount["mountPath"],
            "/var/run/secrets/kubernetes.io/serviceaccount"
        );
        assert_eq!(mount["readOnly"], true);
    }
}

#[tokio::test]
async fn who_wants_no_token_gets_none() {
    let running = Running::with_tokens().await;
    let admin = running.raw();
    let mut quiet = pod("quiet", &["c"]);
    quiet["spec"]["automountServiceAccountToken"] = false.into();
    let made = admin.post(PODS, &quiet).await.body;
    assert_eq!(made["spec"]["volumes"], Value::Null);

    let account = json!({
        "metadata": { "name": "shy" }, "automountServiceAccountToken": false,
        "imagePullSecrets": [{ "name": "registry" }],
    });
    admin.post(ACCOUNTS, &account).await;
    let mut shy = pod("shy", &["c"]);
    shy["spec"]["serviceAccountName"] = "shy".into();
    let made = admin.post(PODS, &shy).await.body;
    assert_eq!(made["spec"]["volumes"], Value::Null);
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{ "name": "registry" }]));
    // The pod's own word counts more.
    let mut loud = pod("loud", &["c"]);
    loud["spec"]["serviceAccountName"] = "shy".into();
    loud["spec"]["automountServiceAccountToken"] = true.into();
    let made = admin.post(PODS, &loud).await.body;
    assert_eq!(made["spec"]["volumes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_pod_needs_an_account_that_is_there_and_waits_for_the_default_one() {
    let running = Running::with_tokens().await;
    let admin = running.raw();
    let mut orphan = pod("p", &["c"]);
    orphan["spec"]["serviceAccountName"] = "nobody".into();
    let refused = admin.post(PODS, &orphan).await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "pods \"p\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
    admin
        .post("/api/v1/namespaces", &json!({ "metadata": { "name": "new" } }))
        .await;
    let path = "/api/v1/namespaces/new/pods";
    let wanted = pod("p", &["c"]);
    let create = admin.post(path, &wanted);
    let account = async {
        let account = json!({ "metadata": { "name": "default" } });
        running
            .raw()
            .post("/api/v1/namespaces/new/serviceaccounts", &account)
            .await
    };
    let (created, account) = tokio::join!(create, account);
    assert_eq!((created.code, account.code), (201, 201));
}

#[tokio::test]
async fn a_node_gets_tokens_for_the_pods_that_it_runs() {
    let running = Running::with_tokens().await;
    let admin = running.raw();
    let made = admin.post(PODS, &pod("p", &["c"])).await.body;
    let path = format!("{ACCOUNTS}/default/token");
    let request = |uid: &Value, audiences: Value| {
        json!({ "spec": { "audiences": audiences, "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid } } })
    };
    let uid = &made["metadata"]["uid"];
    let n1 = node(&running, "n1");
    assert_eq!(
        n1.post(&path, &request(uid, json!([]))).await.code,
        403,
        "not its pod yet"
    );
    bind(&running, "p", "n1").await;
    assert_eq!(n1.post(&path, &request(uid, json!([]))).await.code, 201);

    let n2 = node(&running, "n2");
    let refused = n2.post(&path, &request(uid, json!([]))).await;
    assert_eq!(
        refused.message(),
        "serviceaccounts \"default\" is forbidden: User \"system:node:n2\" cannot create resource \"serviceaccounts/token\" in API group \"\" in the namespace \"default\": no relationship found between node 'n2' and this object"
    );
    // Neither without the pod, nor for another audience than the pod wants.
    for (spec, message) in [
        (json!({}), "node requested token not bound to a pod"),
        (request(&json!(""), json!([]))["spec"].clone(), "without a uid"),
        (
            request(&json!("other"), json!([]))["spec"].clone(),
            "does not match the UID in record",
        ),
        (
            request(uid, json!(["vault"]))["spec"].clone(),
            "audience \"vault\" not found in pod spec volume",
        ),
    ] {
        let refused = n1.post(&path, &json!({ "spec": spec })).await;
        assert_eq!(refused.code, 403, "{}", refused.body);
        assert!(refused.message().contains(message), "{}", refused.message());
    }
    running.account("robot").await;
    assert_eq!(
        n1.post(&format!("{ACCOUNTS}/robot/token"), &json!({})).await.code,
        403
    );
}
