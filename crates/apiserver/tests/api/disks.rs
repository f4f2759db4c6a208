//! A disk that is full, and snapshots.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use testkit::{SmallDisk, eventually_async};

use crate::support::{CONFIG_MAPS, Raw, Running, config_map};
use crate::watches::{Lines, is};

#[tokio::test]
async fn a_full_disk_is_told_and_reads_and_watches_go_on() {
    let disk = SmallDisk::new(8);
    let ballast = disk.path("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let running = Running::with_store(&disk.path("store.redb")).await;
    let raw = running.raw();
    let mut large = config_map("large", json!({}));
    large["data"]["k"] = "x".repeat(100_000).into();
    let mut written = 0;
    let refused = loop {
        large["metadata"]["name"] = format!("large-{written}").into();
        let answer = raw.post(CONFIG_MAPS, &large).await;
        if answer.code != 201 {
            break answer;
        }
        written += 1;
        assert!(written < 200, "the disk is full by now");
    };
    assert_eq!(
        (refused.code, &refused.body["reason"]),
        (507, &json!("InsufficientStorage"))
    );
    assert!(
        refused.message().contains("disk is full"),
        "{}",
        refused.message()
    );

    let list = raw.get(CONFIG_MAPS).await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), written);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}");
    let mut lines = Lines::open(&raw, &path, "application/json").await;
    std::fs::remove_file(&ballast).unwrap();
    eventually_async(Duration::from_secs(20), async || {
        let answer = raw.post(CONFIG_MAPS, &config_map("small", json!({}))).await;
        assert!(matches!(answer.code, 201 | 507), "{}", answer.body);
        answer.code == 201
    })
    .await;
    assert_eq!(lines.event().await, is("ADDED", "small"));
}

async fn snapshot(raw: &Raw) -> (u16, Vec<u8>) {
    let request = http::Request::get("/snapshot");
    let request = request.body(kube::client::Body::from(Vec::new())).unwrap();
    let response = raw.0.send(request).await.unwrap();
    let code = response.status().as_u16();
    (
        code,
        response.into_body().collect().await.unwrap().to_bytes().to_vec(),
    )
}

#[tokio::test]
async fn a_restored_snapshot_has_the_objects_and_clients_list_again() {
    let running = Running::start().await;
    let raw = running.raw();
    for number in 0..300 {
        let object = config_map(&format!("c{number}"), json!({}));
        assert_eq!(raw.post(CONFIG_MAPS, &object).await.code, 201);
    }
    let (code, saved) = snapshot(&raw).await;
    assert_eq!(code, 200);
    let before = raw.get(CONFIG_MAPS).await.body;
    raw.post(CONFIG_MAPS, &config_map("later", json!({}))).await;
    let later = raw.get(CONFIG_MAPS).await.body["metadata"]["resourceVersion"].clone();

    let path = running.dir.path().join("elsewhere.redb");
    store::restore(&saved[..], &path, |_| {}).unwrap();
    let restored = Running::with_store(&path).await;
    let raw = restored.raw();
    let after = raw.get(CONFIG_MAPS).await.body;
    assert_eq!(after["items"], before["items"]);
    let path = format!(
        "{CONFIG_MAPS}?watch=1&resourceVersion={}",
        later.as_str().unwrap()
    );
    let mut lines = Lines::open(&raw, &path, "application/json").await;
    let event = lines.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    let next = raw.post(CONFIG_MAPS, &config_map("next", json!({}))).await.body;
    let number = |version: &Value| version.as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(&next["metadata"]["resourceVersion"]) > number(&later));
}

#[tokio::test]
async fn a_snapshot_is_for_administrators_and_is_read_only() {
    let running = Running::start().await;
    let (code, body) = snapshot(&Raw(running.client("jane", "system:authenticated"))).await;
    assert_eq!(code, 403, "{}", String::from_utf8_lossy(&body));
    assert_eq!(running.raw().post("/snapshot", &json!({})).await.code, 405);
    // Over a connection, too.
    let client = running.over_tls("admin", "system:masters").await;
    let (code, body) = snapshot(&Raw(client)).await;
    assert_eq!(code, 200);
    assert!(body.starts_with(b"ripstop-snapshot"));
}
