//! What `/metrics` tells of the server.

use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::time::Duration;

use crate::kubelet::{send, start, text, upgrade};
use crate::support::{CONFIG_MAPS, PODS, Raw, Running, config_map};

/// All of it, as an administrator sees it.
async fn metrics(running: &Running) -> String {
    let answer = send(running, Request::get("/metrics").body(Empty::new()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    let content_type = answer.headers()["content-type"].to_str().unwrap();
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
    text(answer).await
}

/// The value of the sample that has the name and all of these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut lines = text.lines();
    let line = lines.find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn requests_are_counted_by_what_they_are_about() {
    let running = Running::start().await;
    let raw = running.raw();
    for name in ["a", "b"] {
        assert_eq!(
            raw.post(CONFIG_MAPS, &config_map(name, json!({}))).await.code,
            201
        );
    }
    assert_eq!(raw.post(CONFIG_MAPS, &config_map("a", json!({}))).await.code, 409);
    raw.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("c", json!({})))
        .await;
    raw.get("/api/v1/configmaps").await;
    raw.apply(
        &format!("{CONFIG_MAPS}/a"),
        "m",
        &json!({ "apiVersion": "v1", "kind": "ConfigMap" }),
    )
    .await;
    raw.get("/api/v1/namespaces/default/madeup/x").await;
    raw.get(&format!("{CONFIG_MAPS}/a/madeup")).await;
    let text = metrics(&running).await;
    let about = [
        "group=\"\"",
        "version=\"v1\"",
        "resource=\"configmaps\"",
        "component=\"apiserver\"",
    ];
    let counted = |verb: &str, more: &[&str]| {
        let verb = format!("verb=\"{verb}\"");
        let labels = [&about[..], &[verb.as_str()], more].concat();
        value(&text, "apiserver_request_total", &labels)
    };
    let plain = "dry_run=\"\"";
    assert_eq!(
        counted("POST", &["code=\"201\"", "scope=\"resource\"", plain]),
        Some(2.0),
        "{text}"
    );
    assert_eq!(counted("POST", &["code=\"409\"", plain]), Some(1.0));
    assert_eq!(counted("POST", &["code=\"201\"", "dry_run=\"All\""]), Some(1.0));
    assert_eq!(counted("LIST", &["code=\"200\"", "scope=\"cluster\""]), Some(1.0));
    assert_eq!(counted("APPLY", &["code=\"200\""]), Some(1.0));
    // Names of a client's own don't become labels.
    assert!(!text.contains("madeup"), "{text}");

    let lasted = "apiserver_request_duration_seconds";
    let labels = [&about[..], &["verb=\"POST\"", plain]].concat();
    assert_eq!(value(&text, &format!("{lasted}_count"), &labels), Some(3.0));
    let bucket = |bound| {
        value(
            &text,
            &format!("{lasted}_bucket"),
            &[&labels[..], &[bound]].concat(),
        )
        .unwrap()
    };
    assert_eq!(bucket("le=\"+Inf\""), 3.0);
    assert!(bucket("le=\"0.005\"") <= bucket("le=\"60\""));
    assert!(value(&text, &format!("{lasted}_sum"), &labels) > Some(0.0));

    let stored = |resource: &str| {
        value(
            &text,
            "apiserver_resource_objects",
            &[&format!("resource=\"{resource}\"")],
        )
    };
    assert_eq!((stored("configmaps"), stored("pods")), (Some(2.0), Some(0.0)));
    assert_eq!(stored("namespaces"), Some(4.0));
    assert!(value(&text, "apiserver_storage_size_bytes", &[]) > Some(0.0));
    // This request itself.
    let name = "apiserver_current_inflight_requests";
    assert_eq!(value(&text, name, &["request_kind=\"readOnly\""]), Some(1.0));
    assert_eq!(value(&text, name, &["request_kind=\"mutating\""]), Some(0.0));
    assert!(value(&text, "kubernetes_build_info", &["git_version=\"v1."]).is_some());
}

#[tokio::test]
async fn what_goes_on_is_counted_until_it_ends() {
    let (running, _) = start().await;
    let going_on = async |labels: &[&str], expected: f64| {
        testkit::eventually_async(Duration::from_secs(30), async || {
            let text = metrics(&running).await;
            value(&text, "apiserver_longrunning_requests", labels) == Some(expected)
        })
        .await;
    };
    let path = format!("{CONFIG_MAPS}?watch=true");
    let watch = send(&running, Request::get(path).body(Empty::new()).unwrap()).await;
    let watches = ["verb=\"WATCH\"", "resource=\"configmaps\"", "scope=\"namespace\""];
    going_on(&watches, 1.0).await;
    drop(watch);
    going_on(&watches, 0.0).await;

    let request = upgrade(
        &format!("{PODS}/one/exec?command=x&stdout=1"),
        &[("upgrade", "SPDY/3.1")],
    );
    let mut answer = send(&running, request).await;
    let stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let streams = ["verb=\"CONNECT\"", "resource=\"pods\"", "subresource=\"exec\""];
    going_on(&streams, 1.0).await;
    drop(stream);
    going_on(&streams, 0.0).await;
    let text = metrics(&running).await;
    let code = [&streams[..], &["code=\"101\""]].concat();
    assert_eq!(value(&text, "apiserver_request_total", &code), Some(1.0));
    assert_eq!(
        value(&text, "apiserver_request_duration_seconds_count", &streams),
        None
    );
}

#[tokio::test]
async fn metrics_are_for_whom_a_role_lets() {
    let running = Running::start().await;
    let jane = Raw(running.client("jane", "system:authenticated"));
    let refused = jane.get("/metrics").await;
    assert_eq!(refused.code, 403);
    assert!(
        refused.message().contains("cannot get path \"/metrics\""),
        "{}",
        refused.message()
    );
    let monitor = Raw(running.client("prometheus", "system:monitoring"));
    assert_eq!(monitor.get("/metrics").await.code, 200);
    assert_eq!(monitor.post("/metrics", &json!({})).await.code, 403);
}
