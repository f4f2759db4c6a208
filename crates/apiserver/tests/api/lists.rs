//! Lists and their forms.

use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, PODS, Raw, Running, config_map, pod};

async fn fill(raw: &Raw) {
    for (name, colour) in [
        ("a", "red"),
        ("b", "blue"),
        ("c", "red"),
        ("d", "green"),
        ("e", "red"),
    ] {
        let created = raw
            .post(CONFIG_MAPS, &config_map(name, json!({ "colour": colour })))
            .await;
        assert_eq!(created.code, 201);
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_list_is_in_order_and_selected() {
    let raw = Running::start().await.raw();
    fill(&raw).await;
    let all = raw.get(CONFIG_MAPS).await.body;
    assert_eq!(
        (&all["kind"], &all["apiVersion"]),
        (&json!("ConfigMapList"), &json!("v1"))
    );
    assert_eq!(names(&all), ["a", "b", "c", "d", "e"]);
    let select = |query: &str| format!("{CONFIG_MAPS}?{query}");
    let list = raw
        .get(&select("labelSelector=colour+in+(red,green),colour!=green"))
        .await
        .body;
    assert_eq!(names(&list), ["a", "c", "e"]);
    let list = raw
        .get(&select(
            "fieldSelector=metadata.name!%3Da&labelSelector=colour%3Dred",
        ))
        .await
        .body;
    assert_eq!(names(&list), ["c", "e"]);
    assert_eq!(names(&raw.get("/api/v1/configmaps").await.body).len(), 5);
    assert!(names(&raw.get("/api/v1/namespaces/kube-system/configmaps").await.body).is_empty());
    assert_eq!(raw.get(&select("labelSelector=a+in+(")).await.code, 400);
    assert_eq!(raw.get(&select("fieldSelector=spec.x%3Dy")).await.code, 400);
}

#[tokio::test]
async fn pages_show_one_moment() {
    let raw = Running::start().await.raw();
    fill(&raw).await;
    let first = raw.get(&format!("{CONFIG_MAPS}?limit=2")).await.body;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    raw.delete(&format!("{CONFIG_MAPS}/c"), &Value::Null).await;
    raw.post(CONFIG_MAPS, &config_map("cc", json!({}))).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = raw
        .get(&format!("{CONFIG_MAPS}?limit=9&continue={token}"))
        .await
        .body;
    assert_eq!(names(&rest), ["c", "d", "e"]);
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert!(rest["metadata"].get("continue").is_none());
    let with_version = raw
        .get(&format!("{CONFIG_MAPS}?resourceVersion=3&continue={token}"))
        .await;
    assert_eq!(with_version.code, 400);
}

#[tokio::test]
async fn a_list_may_be_of_the_past_but_not_of_the_future() {
    let raw = Running::start().await.raw();
    fill(&raw).await;
    let now = raw.get(CONFIG_MAPS).await.body;
    let version: u64 = now["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let at = |version: u64, matching: &str| {
        format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch={matching}")
    };
    assert_eq!(
        names(&raw.get(&at(version - 2, "Exact")).await.body),
        ["a", "b", "c"]
    );
    assert_eq!(
        names(&raw.get(&at(version - 2, "NotOlderThan")).await.body).len(),
        5
    );
    let future = raw.get(&at(version + 100, "NotOlderThan")).await;
    assert_eq!(future.code, 504);
    assert!(
        future
            .message()
            .starts_with("Timeout: Too large resource version")
    );
    assert_eq!(raw.get(&at(0, "Exact")).await.code, 422);
    assert_eq!(
        raw.get(&format!("{CONFIG_MAPS}?resourceVersion=x")).await.code,
        422
    );
}

#[tokio::test]
async fn a_table_is_for_people() {
    let raw = Running::start().await.raw();
    raw.post(PODS, &pod("p", &["c", "d"])).await;
    let table = |include: &str| format!("{PODS}?includeObject={include}");
    let accept = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let answer = raw.send("GET", &table("Metadata"), &accept, "").await.body;
    assert_eq!(answer["kind"], "Table");
    let columns = answer["columnDefinitions"].as_array().unwrap();
    let headings: Vec<_> = columns
        .iter()
        .filter(|column| column["priority"] == 0)
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(headings, ["Name", "Ready", "Status", "Restarts", "Age"]);
    let row = &answer["rows"][0];
    assert_eq!(row["cells"].as_array().unwrap().len(), columns.len());
    assert_eq!((&row["cells"][0], &row["cells"][1]), (&json!("p"), &json!("0/2")));
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    let answer = raw.send("GET", &table("Object"), &accept, "").await.body;
    assert_eq!(answer["rows"][0]["object"]["kind"], "Pod");
    let answer = raw.send("GET", &table("None"), &accept, "").await.body;
    assert_eq!(answer["rows"][0]["object"], Value::Null);
    let one = raw.send("GET", &format!("{PODS}/p"), &accept, "").await.body;
    assert_eq!(
        (&one["kind"], &one["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("p"))
    );
}

#[tokio::test]
async fn metadata_may_be_all_that_is_asked_for() {
    let raw = Running::start().await.raw();
    fill(&raw).await;
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    )];
    let list = raw.send("GET", CONFIG_MAPS, &accept, "").await.body;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(names(&list).len(), 5);
    assert!(list["items"][0].get("data").is_none());
}

#[tokio::test]
async fn discovery_and_documents_are_tagged() {
    let raw = Running::start().await.raw();
    let accept = (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    );
    let all = raw.send("GET", "/apis", &[accept], "").await;
    assert_eq!(all.body["apiVersion"], "apidiscovery.k8s.io/v2");
    assert_eq!(
        all.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let tag = all.headers["etag"].to_str().unwrap();
    let again = raw
        .send("GET", "/apis", &[accept, ("if-none-match", tag)], "")
        .await;
    assert_eq!(again.code, 304);
    assert_eq!(raw.get("/apis").await.body["kind"], "APIGroupList");
    assert_eq!(raw.get("/api").await.body["versions"], json!(["v1"]));
    assert_eq!(
        raw.get("/apis/apps").await.body["preferredVersion"]["version"],
        "v1"
    );
    assert_eq!(raw.get("/api/v1").await.body["groupVersion"], "v1");
    assert_eq!(raw.get("/openapi/v2").await.body["swagger"], "2.0");
    let root = raw.get("/openapi/v3").await.body;
    let url = root["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert_eq!(raw.get(url).await.code, 200);
    assert_eq!(raw.get("/version").await.body["gitVersion"], "v1.36.0+ripstop");
}

#[tokio::test]
async fn a_page_of_a_forgotten_moment_is_gone_and_can_go_on_inconsistently() {
    let running = Running::start().await;
    let raw = running.raw();
    fill(&raw).await;
    let first = raw.get(&format!("{CONFIG_MAPS}?limit=2")).await.body;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    raw.post(CONFIG_MAPS, &config_map("cc", json!({}))).await;
    running.server.forget_history().await.unwrap();
    let gone = raw.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!((gone.code, &gone.body["reason"]), (410, &json!("Expired")));
    assert!(
        gone.message()
            .starts_with("The provided continue parameter is too old to display a consistent list result.")
    );
    let token = gone.body["metadata"]["continue"].as_str().unwrap();
    let rest = raw.get(&format!("{CONFIG_MAPS}?continue={token}")).await.body;
    assert_eq!(names(&rest), ["c", "cc", "d", "e"]);
    let exactly = format!("{CONFIG_MAPS}?resourceVersionMatch=Exact&resourceVersion=1");
    let past = raw.get(&exactly).await;
    assert_eq!(
        (past.code, past.message()),
        (410, "The resourceVersion for the provided list is too old.")
    );
}

#[tokio::test]
async fn options_that_do_not_go_together_are_refused_in_kubernetes_words() {
    let raw = Running::start().await.raw();
    fill(&raw).await;
    let first = raw.get(&format!("{CONFIG_MAPS}?limit=2")).await.body;
    let token = first["metadata"]["continue"].as_str().unwrap();
    for (query, why) in [
        (
            "resourceVersionMatch=Exact".to_owned(),
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            format!("continue={token}&resourceVersionMatch=Exact"),
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
        (
            "sendInitialEvents=true".to_owned(),
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        (
            "watch=1&resourceVersionMatch=NotOlderThan".to_owned(),
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
    ] {
        let refused = raw.get(&format!("{CONFIG_MAPS}?{query}")).await;
        let expected = format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
        assert_eq!((refused.code, refused.message()), (422, expected.as_str()));
    }
}

#[tokio::test]
async fn a_selected_page_does_not_say_how_many_are_left() {
    let raw = Running::start().await.raw();
    for i in 0..6 {
        let colour = if i % 2 == 0 { "red" } else { "blue" };
        raw.post(
            CONFIG_MAPS,
            &config_map(&format!("c{i}"), json!({ "colour": colour })),
        )
        .await;
    }
    let red = format!("{CONFIG_MAPS}?limit=2&labelSelector=colour+in+(red),!absent");
    let first = raw.get(&red).await.body;
    assert_eq!(names(&first), ["c0", "c2"]);
    assert_eq!(first["metadata"].get("remainingItemCount"), None);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = raw.get(&format!("{red}&continue={token}")).await.body;
    assert_eq!(names(&rest), ["c4"]);
}

#[tokio::test]
async fn one_object_is_not_older_than_asked_for() {
    let raw = Running::start().await.raw();
    let created = raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await.body;
    let version = created["metadata"]["resourceVersion"].as_str().unwrap();
    let at = |version: &str| format!("{CONFIG_MAPS}/a?resourceVersion={version}");
    for version in ["0", version] {
        assert_eq!(raw.get(&at(version)).await.code, 200);
    }
    let future = raw.get(&at("99999")).await;
    assert_eq!(
        (future.code, &future.body["details"]["causes"][0]["reason"]),
        (504, &json!("ResourceVersionTooLarge"))
    );
    assert_eq!(future.headers["retry-after"], "1");
    assert_eq!(raw.get(&at("x")).await.code, 422);
}
