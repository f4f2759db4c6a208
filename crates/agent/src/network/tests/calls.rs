//! ADD, DEL, CHECK and GC.

use cni::Code;

use super::*;

#[tokio::test]
async fn an_add_says_what_was_planned() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    let result = running.add("web").await.expect("attached");
    insta::assert_snapshot!(serde_json::to_string_pretty(&result).expect("JSON"));
}

#[tokio::test]
async fn adding_twice_returns_the_same_and_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    let first = running.add("web").await.expect("attached");
    let writes = running.network.counters().counts().kernel_writes;
    assert_eq!(running.add("web").await.expect("attached"), first);
    assert_eq!(running.network.counters().counts().kernel_writes, writes);
}

#[tokio::test]
async fn del_removes_what_add_made_and_may_be_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let before = kernel.played().objects.clone();
    running.add("web").await.expect("attached");
    for _ in 0..2 {
        running
            .call(Command::Del, "web", json!({}))
            .await
            .expect("detached");
    }
    assert_eq!(kernel.played().objects, before);
    assert!(running.names().is_empty());
}

#[tokio::test]
async fn a_refused_add_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let before = kernel.played().objects.clone();
    kernel.played().refuse = 1;
    let error = running.add("web").await.expect_err("refused");
    assert_eq!(error.code, Code::Kernel);
    assert_eq!(kernel.played().objects, before);
    assert!(running.names().is_empty());
}

#[tokio::test]
async fn an_add_that_cannot_be_undone_keeps_its_address_until_its_del() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    kernel.played().refuse = 2;
    running.add("web").await.expect_err("refused");
    assert_eq!(running.names(), ["web"]);
    running
        .call(Command::Del, "web", json!({}))
        .await
        .expect("detached");
    assert!(running.names().is_empty());
}

#[tokio::test]
async fn a_refused_del_keeps_the_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    running.add("web").await.expect("attached");
    kernel.played().refuse = 1;
    running
        .call(Command::Del, "web", json!({}))
        .await
        .expect_err("refused");
    assert_eq!(running.names(), ["web"]);
}

#[tokio::test]
async fn check_finds_what_somebody_took_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let result = running.add("web").await.expect("attached");
    let previous = json!({"prevResult": result});
    running
        .call(Command::Check, "web", previous.clone())
        .await
        .expect("as it was made");

    assert_eq!(
        running
            .call(Command::Check, "web", json!({}))
            .await
            .expect_err("no prevResult")
            .code,
        Code::InvalidConfig
    );
    let other = json!({"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.9.9.9/32"}]}});
    assert_eq!(
        running
            .call(Command::Check, "web", other)
            .await
            .expect_err("another address")
            .code,
        Code::CheckFailed
    );
    assert_eq!(
        running
            .call(Command::Check, "who", previous.clone())
            .await
            .expect_err("unknown")
            .code,
        Code::UnknownContainer
    );

    // A plugin that came after us took the default route for its own, and said so.
    let mut later = previous.clone();
    later["prevResult"]["routes"] = json!([{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}]);
    running
        .call(Command::Check, "web", later)
        .await
        .expect("what is listed is there");

    kernel.lose_link(&AttachmentId::new("web", "eth0").host_link());
    let error = running
        .call(Command::Check, "web", previous)
        .await
        .expect_err("taken away");
    assert_eq!(error.code, Code::CheckFailed);
    assert!(error.details.contains("veth"), "{error}");
}

#[tokio::test]
async fn gc_detaches_what_the_runtime_does_not_know() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    for container in ["one", "two", "three"] {
        running.add(container).await.expect("attached");
    }
    let error = running
        .call(Command::Gc, "x", json!({}))
        .await
        .expect_err("no list");
    assert_eq!(error.code, Code::InvalidConfig);
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "two", "ifname": "eth0"}, {"containerID": "who", "ifname": "eth0"}]});
    // Another network's list says nothing about these.
    let mut other = valid.clone();
    other["name"] = json!("other");
    running.call(Command::Gc, "x", other).await.expect("done");
    assert_eq!(running.names(), ["one", "three", "two"]);
    running.call(Command::Gc, "x", valid).await.expect("done");
    assert_eq!(running.names(), ["two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_side_by_side_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = Arc::new(ready(dir.path(), &kernel).await);
    let before = kernel.played().objects.clone();
    let tasks = (0..60).map(|number| {
        let running = running.clone();
        tokio::spawn(async move {
            let container = format!("c{}", number % 20);
            running.add(&container).await.expect("attached");
            running
                .call(Command::Del, &container, json!({}))
                .await
                .expect("detached");
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    assert_eq!(kernel.played().objects, before);
    assert!(running.names().is_empty());
}
