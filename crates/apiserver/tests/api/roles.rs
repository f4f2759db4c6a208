//! Roles and bindings at work: what they give, to whom, at once; and that nobody gives more than they have.

use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, PODS, Raw, Running, config_map, pod};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

fn role(name: &str, verbs: &[&str], resources: &[&str]) -> Value {
    json!({ "metadata": { "name": name },
            "rules": [{ "verbs": verbs, "apiGroups": [""], "resources": resources }] })
}

fn binding(name: &str, kind: &str, role: &str, subject: Value) -> Value {
    json!({ "metadata": { "name": name }, "roleRef": { "kind": kind, "name": role }, "subjects": [subject] })
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "name": name })
}

async fn make(running: &Running, path: &str, object: Value) {
    let made = running.raw().post(path, &object).await;
    assert_eq!(made.code, 201, "{}", made.body);
}

#[tokio::test]
async fn a_binding_counts_from_its_creation_to_its_end() {
    let running = Running::start().await;
    let jane = Raw(running.client("jane", "dev"));
    assert_eq!(jane.get(PODS).await.code, 403);
    make(&running, ROLES, role("reader", &["get", "list"], &["pods"])).await;
    make(&running, BINDINGS, binding("b", "Role", "reader", user("jane"))).await;
    assert_eq!(jane.get(PODS).await.code, 200);
    assert_eq!(jane.get("/api/v1/namespaces/kube-system/pods").await.code, 403);
    assert_eq!(jane.get("/api/v1/pods").await.code, 403);
    assert_eq!(jane.post(PODS, &pod("p", &["c"])).await.code, 403);
    // A role that changes, changes what its bindings give.
    let wider = json!({ "rules": role("", &["get", "list", "create"], &["pods"])["rules"] });
    running
        .raw()
        .patch(&format!("{ROLES}/reader"), "merge", &wider)
        .await;
    assert_eq!(jane.post(PODS, &pod("p", &["c"])).await.code, 201);
    running.raw().delete(&format!("{BINDINGS}/b"), &Value::Null).await;
    assert_eq!(jane.get(PODS).await.code, 403);
}

#[tokio::test]
async fn rights_hold_for_groups_accounts_and_everywhere() {
    let running = Running::with_tokens().await;
    running.account("robot").await;
    let robot = running.with_token(&running.token("robot", json!({})).await);
    assert_eq!(robot.get(PODS).await.code, 403);
    let account = json!({ "kind": "ServiceAccount", "name": "robot", "namespace": "default" });
    make(
        &running,
        BINDINGS,
        binding("b", "ClusterRole", "system:aggregate-to-view", account),
    )
    .await;
    assert_eq!(robot.get(PODS).await.code, 200);
    assert_eq!(robot.get("/api/v1/pods").await.code, 403);
    assert_eq!(
        robot.get("/api/v1/namespaces/default").await.code,
        200,
        "its own namespace"
    );
    assert_eq!(robot.get("/api/v1/namespaces/kube-system").await.code, 403);

    let group = json!({ "kind": "Group", "name": "dev" });
    make(
        &running,
        CLUSTER_BINDINGS,
        binding("all", "ClusterRole", "system:aggregate-to-view", group),
    )
    .await;
    let jane = Raw(running.client("jane", "dev"));
    assert_eq!(jane.get("/api/v1/pods").await.code, 200);
    assert_eq!(jane.get("/api/v1/namespaces/kube-system/secrets").await.code, 403);
}

#[tokio::test]
async fn a_binding_to_nothing_gives_nothing_and_says_so() {
    let running = Running::start().await;
    make(&running, BINDINGS, binding("b", "Role", "gone", user("jane"))).await;
    let refused = Raw(running.client("jane", "dev")).get(PODS).await;
    assert!(
        refused.message().ends_with(
            "in the namespace \"default\": RBAC: role.rbac.authorization.k8s.io \"gone\" not found"
        ),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn nobody_gives_rights_that_they_lack() {
    let running = Running::start().await;
    let jane = Raw(running.client("jane", "dev"));
    make(&running, ROLES, role("own", &["get"], &["pods"])).await;
    make(&running, BINDINGS, binding("own", "Role", "own", user("jane"))).await;
    let rules = json!({ "metadata": { "name": "writer" }, "rules": [
        { "verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"] },
        { "verbs": ["create", "update", "patch", "get"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"] },
    ] });
    make(&running, ROLES, rules).await;
    make(
        &running,
        BINDINGS,
        binding("writer", "Role", "writer", user("jane")),
    )
    .await;

    // What she has she may give …
    assert_eq!(
        jane.post(ROLES, &role("same", &["get"], &["pods"])).await.code,
        201
    );
    // … and nothing else, neither new nor by a change.
    let refused = jane
        .post(ROLES, &role("more", &["get", "delete"], &["pods", "secrets"]))
        .await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}"
    );
    let wider = json!({ "rules": role("", &["delete"], &["pods"])["rules"] });
    assert_eq!(
        jane.patch(&format!("{ROLES}/own"), "merge", &wider).await.code,
        403
    );
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(
        jane.patch(&format!("{ROLES}/own"), "merge", &label).await.code,
        200
    );
    let admin = binding("admin", "ClusterRole", "cluster-admin", user("jane"));
    // rolebindings "*" includes no right to bind: that is asked of the role.
    assert_eq!(jane.post(BINDINGS, &admin).await.code, 403);
    assert_eq!(
        jane.post(BINDINGS, &binding("mine", "Role", "own", user("joe")))
            .await
            .code,
        201
    );
    assert_eq!(
        jane.post(BINDINGS, &binding("none", "Role", "gone", user("joe")))
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn escalate_and_bind_are_rights_of_their_own() {
    let running = Running::start().await;
    let jane = Raw(running.client("jane", "dev"));
    let rules = json!({ "metadata": { "name": "writer" }, "rules": [
        { "verbs": ["create", "escalate"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"] },
        { "verbs": ["create"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"] },
        { "verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"] },
    ] });
    make(&running, ROLES, rules).await;
    make(
        &running,
        BINDINGS,
        binding("writer", "Role", "writer", user("jane")),
    )
    .await;
    assert_eq!(jane.post(ROLES, &role("any", &["*"], &["*"])).await.code, 201);
    assert_eq!(
        jane.post(BINDINGS, &binding("v", "ClusterRole", "view", user("x")))
            .await
            .code,
        201
    );
    assert_eq!(
        jane.post(BINDINGS, &binding("e", "ClusterRole", "cluster-admin", user("x")))
            .await
            .code,
        403
    );
}

#[tokio::test]
async fn who_gathers_rules_must_have_them_all() {
    let running = Running::start().await;
    make(
        &running,
        CLUSTER_ROLES,
        json!({ "metadata": { "name": "maker" }, "rules": [
            { "verbs": ["create"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"] }] }),
    )
    .await;
    make(
        &running,
        CLUSTER_BINDINGS,
        binding("maker", "ClusterRole", "maker", user("jane")),
    )
    .await;
    let gathering = json!({ "metadata": { "name": "g" }, "aggregationRule": {
        "clusterRoleSelectors": [{ "matchLabels": { "a": "b" } }] } });
    let refused = Raw(running.client("jane", "dev"))
        .post(CLUSTER_ROLES, &gathering)
        .await;
    assert_eq!(refused.code, 403);
    assert!(
        refused
            .message()
            .ends_with("must have cluster-admin privileges to use the aggregationRule")
    );
    make(&running, CLUSTER_ROLES, gathering).await;
}

#[tokio::test]
async fn defaults_are_there_and_come_back() {
    let running = Running::start().await;
    let admin = running.raw();
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:basic-user",
        "ripstop:agent",
        "ripstop:dns",
    ] {
        assert_eq!(
            admin.get(&format!("{CLUSTER_ROLES}/{name}")).await.code,
            200,
            "{name}"
        );
    }
    let path = format!("{CLUSTER_ROLES}/system:basic-user");
    let rules = json!({ "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }] });
    admin.patch(&path, "merge", &rules).await;
    admin
        .delete(&format!("{CLUSTER_BINDINGS}/system:discovery"), &Value::Null)
        .await;
    let kept = format!("{CLUSTER_ROLES}/system:public-info-viewer");
    let off = json!({ "metadata": { "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "false" } }, "rules": [] });
    admin.patch(&kept, "merge", &off).await;

    running.server.bootstrap().await.unwrap();
    let role = admin.get(&path).await.body;
    assert_eq!(role["rules"].as_array().unwrap().len(), 4, "{role}");
    assert_eq!(
        admin
            .get(&format!("{CLUSTER_BINDINGS}/system:discovery"))
            .await
            .code,
        200
    );
    assert_eq!(
        admin.get(&kept).await.body["rules"]
            .as_array()
            .map_or(0, Vec::len),
        0,
        "left alone"
    );
    let before = admin.get(&path).await.body;
    running.server.bootstrap().await.unwrap();
    assert_eq!(
        admin.get(&path).await.body,
        before,
        "nothing to do writes nothing"
    );
}

#[tokio::test]
async fn reviews_answer_for_oneself_and_for_others() {
    let running = Running::start().await;
    make(&running, ROLES, role("reader", &["get"], &["pods"])).await;
    make(&running, BINDINGS, binding("b", "Role", "reader", user("jane"))).await;
    let attributes = |namespace: &str| json!({ "verb": "get", "resource": "pods", "namespace": namespace });
    let jane = Raw(running.client("jane", "dev"));
    let question = |namespace: &str| json!({ "spec": { "resourceAttributes": attributes(namespace) } });
    let own = jane.post(ACCESS, &question("default")).await.body;
    assert_eq!(own["status"]["allowed"], true);
    assert_eq!(
        own["status"]["reason"],
        "RBAC: allowed by RoleBinding \"b/default\" of Role \"reader\" to User \"jane\""
    );
    assert_eq!(
        jane.post(ACCESS, &question("other")).await.body["status"]["allowed"],
        false
    );

    let others = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let about = |who: &str| json!({ "spec": { "user": who, "resourceAttributes": attributes("default") } });
    assert_eq!(jane.post(others, &about("joe")).await.code, 403);
    let admin = running.raw();
    assert_eq!(
        admin.post(others, &about("jane")).await.body["status"]["allowed"],
        true
    );
    assert_eq!(
        admin.post(others, &about("joe")).await.body["status"]["allowed"],
        false
    );
    assert_eq!(
        admin
            .post(
                others,
                &json!({ "spec": { "resourceAttributes": attributes("x") } })
            )
            .await
            .code,
        422
    );

    let local = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    assert_eq!(
        admin.post(local, &about("jane")).await.body["status"]["allowed"],
        true
    );
    let elsewhere = json!({ "spec": { "user": "jane", "resourceAttributes": attributes("other") } });
    assert_eq!(admin.post(local, &elsewhere).await.code, 400);

    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let listed = jane
        .post(rules, &json!({ "spec": { "namespace": "default" } }))
        .await
        .body;
    let found = listed["status"]["resourceRules"].as_array().unwrap();
    assert!(
        found.iter().any(|rule| rule["resources"] == json!(["pods"])),
        "{listed}"
    );
    assert_eq!(listed["status"]["incomplete"], false);
    assert_eq!(jane.post(rules, &json!({ "spec": {} })).await.code, 400);
}

#[tokio::test]
async fn who_may_takes_part_for_others() {
    let running = Running::start().await;
    let rules = json!({ "metadata": { "name": "actor" }, "rules": [
        { "verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["joe"] },
        { "verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"] },
    ] });
    make(&running, CLUSTER_ROLES, rules).await;
    make(
        &running,
        CLUSTER_BINDINGS,
        binding("actor", "ClusterRole", "actor", user("jane")),
    )
    .await;
    make(&running, ROLES, role("reader", &["list"], &["pods"])).await;
    make(&running, BINDINGS, binding("b", "Role", "reader", user("joe"))).await;
    let jane = Raw(running.client("jane", "ops"));
    let get = async |headers: &[(&str, &str)]| jane.send("GET", PODS, headers, "").await;
    assert_eq!(get(&[]).await.code, 403);
    assert_eq!(get(&[("impersonate-user", "joe")]).await.code, 200);
    assert_eq!(
        get(&[("impersonate-user", "joe"), ("impersonate-group", "dev")])
            .await
            .code,
        200
    );
    let refused = get(&[("impersonate-user", "admin")]).await;
    assert_eq!(
        refused.message(),
        "users \"admin\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    let masters = [
        ("impersonate-user", "joe"),
        ("impersonate-group", "system:masters"),
    ];
    assert_eq!(get(&masters).await.code, 403);
    assert_eq!(
        get(&[("impersonate-user", "joe"), ("impersonate-uid", "7")])
            .await
            .code,
        403
    );
    assert_eq!(
        get(&[("impersonate-user", "joe"), ("impersonate-extra-x", "y")])
            .await
            .code,
        403
    );
    assert_eq!(get(&[("impersonate-group", "dev")]).await.code, 400);

    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [
        ("impersonate-user", "system:serviceaccount:default:robot"),
        ("impersonate-extra-a%2fb", "c"),
    ];
    let taken = running.raw().send("POST", who, &headers, "{}").await.body;
    let user = &taken["status"]["userInfo"];
    assert_eq!(user["groups"][1], "system:serviceaccounts:default");
    assert_eq!(user["extra"], json!({ "a/b": ["c"] }));
}

#[tokio::test]
async fn a_websocket_to_a_container_takes_the_right_to_create_one() {
    let running = Running::start().await;
    make(&running, ROLES, role("r", &["get"], &["pods", "pods/exec"])).await;
    make(&running, BINDINGS, binding("b", "Role", "r", user("jane"))).await;
    let jane = Raw(running.client("jane", "dev"));
    let refused = jane.get(&format!("{PODS}/p/exec?command=x&stdout=1")).await;
    assert_eq!(refused.code, 403);
    assert!(
        refused.message().contains("cannot create resource \"pods/exec\""),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_node_relabels_itself_within_bounds_and_never_its_taints() {
    let running = Running::start().await;
    let admin = running.raw();
    let n1 = Raw(running.client("system:node:n1", "system:nodes"));
    let with = |labels: Value| json!({ "metadata": { "name": "n1", "labels": labels } });
    let role_label = json!({ "node-role.kubernetes.io/control-plane": "" });
    let refused = n1.post("/api/v1/nodes", &with(role_label.clone())).await;
    assert_eq!(
        refused.message(),
        "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: node-role.kubernetes.io/control-plane"
    );
    let fine = with(json!({ "kubernetes.io/hostname": "n1", "colour": "red" }));
    assert_eq!(n1.post("/api/v1/nodes", &fine).await.code, 201);
    admin
        .post("/api/v1/nodes", &json!({ "metadata": { "name": "n2" } }))
        .await;
    let path = "/api/v1/nodes/n1";
    let label = |labels: Value| json!({ "metadata": { "labels": labels } });
    assert_eq!(
        n1.patch(path, "merge", &label(json!({ "colour": "blue" })))
            .await
            .code,
        200
    );
    assert_eq!(n1.patch(path, "merge", &label(role_label)).await.code, 403);
    let taint = json!({ "spec": { "taints": [{ "key": "a", "effect": "NoSchedule" }] } });
    let refused = n1.patch(path, "merge", &taint).await;
    assert!(
        refused.message().contains("is not allowed to modify taints"),
        "{}",
        refused.message()
    );
    assert_eq!(
        n1.patch("/api/v1/nodes/n2", "merge", &label(json!({ "x": "y" })))
            .await
            .code,
        403
    );
    // The network's part sees all nodes and pods, by the agent's own role.
    assert_eq!(n1.get("/api/v1/nodes").await.code, 200);
    assert_eq!(n1.get("/api/v1/pods").await.code, 200);
    assert_eq!(n1.get("/api/v1/secrets").await.code, 403);
    assert_eq!(n1.post(CONFIG_MAPS, &config_map("x", json!({}))).await.code, 403);
    assert_eq!(n1.get(&format!("{RBAC}/clusterroles")).await.code, 403);
}
