//! Watches.

use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::runtime::watcher;
use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, PODS, Raw, Running, config_map, pod};

/// The lines of a watch.
pub(crate) struct Lines(std::pin::Pin<Box<dyn futures::Stream<Item = std::io::Result<String>> + Send>>);

impl Lines {
    pub(crate) async fn open(raw: &Raw, path: &str, accept: &str) -> Lines {
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Vec::new())
            .unwrap();
        let reader = raw.0.request_stream(request).await.unwrap();
        Lines(Box::pin(reader.lines()))
    }

    pub(crate) async fn next(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(Duration::from_secs(10), self.0.next()).await;
        let line = line.expect("the watch says something")?;
        Some(serde_json::from_str(&line.unwrap()).unwrap())
    }

    /// The next event's type and object's name.
    pub(crate) async fn event(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

pub(crate) fn is(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

async fn recolour(raw: &Raw, name: &str, colour: &str) {
    let patch = json!({ "metadata": { "labels": { "colour": colour } } });
    assert_eq!(
        raw.patch(&format!("{CONFIG_MAPS}/{name}"), "merge", &patch)
            .await
            .code,
        200
    );
}

#[tokio::test]
async fn a_watch_shows_what_exists_and_what_happens() {
    let raw = Running::start().await.raw();
    raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    let mut lines = Lines::open(&raw, &format!("{CONFIG_MAPS}?watch=true"), "application/json").await;
    assert_eq!(lines.event().await, is("ADDED", "a"));
    recolour(&raw, "a", "red").await;
    assert_eq!(lines.event().await, is("MODIFIED", "a"));
    raw.post(PODS, &pod("p", &["c"])).await;
    raw.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await;
    let gone = lines.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    // The deletion's own version, from which a client would go on.
    let version = raw.get(CONFIG_MAPS).await.body["metadata"]["resourceVersion"].clone();
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], version);
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection_by_changing() {
    let raw = Running::start().await.raw();
    let version = raw
        .post(CONFIG_MAPS, &config_map("a", json!({ "colour": "blue" })))
        .await
        .body;
    let version = version["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?watch=1&labelSelector=colour%3Dred&resourceVersion={version}");
    let mut lines = Lines::open(&raw, &path, "application/json").await;
    recolour(&raw, "a", "red").await;
    recolour(&raw, "a", "green").await;
    recolour(&raw, "a", "blue").await;
    raw.post(CONFIG_MAPS, &config_map("b", json!({ "colour": "red" })))
        .await;
    assert_eq!(lines.event().await, is("ADDED", "a"));
    let left = lines.next().await.unwrap();
    assert_eq!(
        (&left["type"], &left["object"]["metadata"]["labels"]["colour"]),
        (&json!("DELETED"), &json!("red"))
    );
    assert_eq!(lines.event().await, is("ADDED", "b"));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let raw = Running::start().await.raw();
    for name in ["a", "b"] {
        raw.post(CONFIG_MAPS, &config_map(name, json!({}))).await;
    }
    let options = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&raw, &format!("{CONFIG_MAPS}?{options}"), "application/json").await;
    assert_eq!(lines.event().await, is("ADDED", "a"));
    assert_eq!(lines.event().await, is("ADDED", "b"));
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let without = raw
        .get(&format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true"))
        .await;
    assert_eq!(without.code, 422);
}

#[tokio::test]
async fn a_watch_ends_in_its_time() {
    let raw = Running::start().await.raw();
    let path = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1");
    let mut lines = Lines::open(&raw, &path, "application/json").await;
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn a_watch_ends_with_the_server() {
    let running = Running::start().await;
    let raw = running.raw();
    let mut lines = Lines::open(&raw, &format!("{CONFIG_MAPS}?watch=1"), "application/json").await;
    running.stop.cancel();
    assert_eq!(lines.next().await, None);
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_table_is_watched_with_its_columns_once() {
    let raw = Running::start().await.raw();
    raw.post(PODS, &pod("p", &["c"])).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut lines = Lines::open(&raw, &format!("{PODS}?watch=1"), accept).await;
    let first = lines.next().await.unwrap();
    assert_eq!(first["object"]["rows"][0]["cells"][0], "p");
    assert!(
        !first["object"]["columnDefinitions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    raw.post(PODS, &pod("q", &["c"])).await;
    let second = lines.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "q");
    assert!(
        second["object"]["columnDefinitions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn one_object_may_be_watched_by_its_name() {
    let raw = Running::start().await.raw();
    for name in ["a", "ab"] {
        raw.post(CONFIG_MAPS, &config_map(name, json!({}))).await;
    }
    let path = format!("{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Da");
    let mut lines = Lines::open(&raw, &path, "application/json").await;
    assert_eq!(lines.event().await, is("ADDED", "a"));
    recolour(&raw, "ab", "red").await;
    recolour(&raw, "a", "red").await;
    assert_eq!(lines.event().await, is("MODIFIED", "a"));
}

#[tokio::test]
async fn an_informer_of_kube_rs_keeps_up() {
    let running = Running::start().await;
    for strategy in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let maps: Api<ConfigMap> = Api::namespaced(running.admin(), "default");
        let mut events = Box::pin(watcher(maps.clone(), strategy));
        let writer = tokio::spawn({
            let maps = maps.clone();
            async move {
                for i in 0..50 {
                    let map: ConfigMap =
                        serde_json::from_value(config_map(&format!("m{i}"), json!({}))).unwrap();
                    maps.create(&PostParams::default(), &map).await.unwrap();
                }
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 50 {
            let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
            match event.expect("events keep coming").unwrap().unwrap() {
                watcher::Event::Apply(map) | watcher::Event::InitApply(map) => {
                    seen.insert(map.metadata.name.unwrap());
                }
                _ => {}
            }
        }
        writer.await.unwrap();
        maps.delete_collection(&Default::default(), &Default::default())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_watch_from_a_forgotten_moment_says_so_and_ends() {
    let running = Running::start().await;
    let raw = running.raw();
    for name in ["a", "b"] {
        raw.post(CONFIG_MAPS, &config_map(name, json!({}))).await;
    }
    running.server.forget_history().await.unwrap();
    let mut lines = Lines::open(
        &raw,
        &format!("{CONFIG_MAPS}?watch=1&resourceVersion=1"),
        "application/json",
    )
    .await;
    let error = lines.next().await.unwrap();
    let status = &error["object"];
    assert_eq!(
        (
            &error["type"],
            &status["kind"],
            &status["reason"],
            &status["code"]
        ),
        (&json!("ERROR"), &json!("Status"), &json!("Expired"), &json!(410))
    );
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("too old resource version: 1 ("), "{message}");
    assert_eq!(lines.next().await, None);
    // From now on is fine.
    let now = raw.get(CONFIG_MAPS).await.body["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={now}");
    let mut lines = Lines::open(&raw, &path, "application/json").await;
    recolour(&raw, "a", "red").await;
    assert_eq!(lines.event().await, is("MODIFIED", "a"));
}

#[tokio::test]
async fn a_watch_ends_with_a_bookmark_to_go_on_from() {
    let raw = Running::start().await.raw();
    raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await;
    let version = raw.get(CONFIG_MAPS).await.body["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let watch =
        |options: &str| format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=3&resourceVersion={version}{options}");
    let mut lines = Lines::open(&raw, &watch("&allowWatchBookmarks=true"), "application/json").await;
    // Something happens elsewhere, which this watch shows only as progress.
    raw.post(PODS, &pod("p", &["c"])).await;
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    let reached: u64 = bookmark["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(reached > version.parse().unwrap());
    assert_eq!(lines.next().await, None);
    let mut lines = Lines::open(&raw, &watch(""), "application/json").await;
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn metadata_alone_is_watched() {
    let raw = Running::start().await.raw();
    let accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut lines = Lines::open(&raw, &format!("{CONFIG_MAPS}?watch=1"), accept).await;
    raw.post(CONFIG_MAPS, &config_map("a", json!({ "colour": "red" })))
        .await;
    let event = lines.next().await.unwrap();
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(event["object"]["metadata"]["labels"], json!({ "colour": "red" }));
    assert_eq!(event["object"].get("data"), None);
}
