//! When pods can be attached, and what is said when they can't.

use cni::Code;

use super::*;

#[tokio::test]
async fn an_add_that_comes_while_the_agent_starts_waits_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(dir.path(), &Fake::default()).await;
    let (added, ()) = tokio::join!(running.add("web"), running.publish(cluster(&["10.244.1.0/24"])));
    added.expect("attached");
}

#[tokio::test(start_paused = true)]
async fn before_the_cluster_is_known_add_waits_and_del_works() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(dir.path(), &Fake::default()).await;
    running
        .until(|state| state.as_ref().is_err_and(|reason| reason.contains("the API")))
        .await
        .expect_err("unready");
    assert_eq!(
        running.add("web").await.expect_err("too early").code,
        Code::TryAgainLater
    );
    let status = running
        .call(Command::Status, "web", json!({}))
        .await
        .expect_err("too early");
    assert_eq!(status.code, Code::NotAvailable);
    assert!(status.msg.contains("the API hasn't said yet"), "{status}");
    running
        .call(Command::Del, "web", json!({}))
        .await
        .expect("nothing to do");
}

#[tokio::test(start_paused = true)]
async fn while_the_kernel_takes_nothing_add_is_told_why_and_to_try_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    kernel.played().refuse = usize::MAX;
    let running = start(dir.path(), &kernel).await;
    running.snapshots.send_replace(Some(cluster(&["10.244.1.0/24"])));
    running
        .until(|state| state.as_ref().is_err_and(|reason| reason.contains("refused")))
        .await
        .expect_err("unready");
    let error = running.add("web").await.expect_err("unready");
    assert_eq!(error.code, Code::TryAgainLater);
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(running.names().is_empty());
    kernel.played().refuse = 0;
    running.until(Result::is_ok).await.expect("it refuses no more");
    running.add("web").await.expect("attached");
}

#[tokio::test]
async fn a_node_without_blocks_says_what_it_waits_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(dir.path(), &Fake::default()).await;
    running.snapshots.send_replace(Some(cluster(&[])));
    running
        .until(|state| {
            state
                .as_ref()
                .is_err_and(|reason| reason.contains("spec.podCIDRs"))
        })
        .await
        .expect_err("unready");
    running.publish(cluster(&["10.244.1.0/24"])).await;
    running
        .call(Command::Status, "x", json!({}))
        .await
        .expect("ready");
}

#[tokio::test]
async fn a_block_that_another_node_has_is_not_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(dir.path(), &Fake::default()).await;
    let mut snapshot = Snapshot::clone(&cluster(&["10.244.1.0/24"]));
    let theirs = snapshot.nodes["a"].clone();
    snapshot.nodes.insert("0-first".to_owned(), theirs);
    running.snapshots.send_replace(Some(Arc::new(snapshot)));
    let reason = running
        .until(|state| state.as_ref().is_err_and(|reason| reason.contains("overlap")))
        .await;
    assert!(reason.expect_err("unready").contains("0-first"));
}

#[tokio::test(start_paused = true)]
async fn status_tells_whether_pods_that_are_there_are_concerned() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    running.add("web").await.expect("attached");
    kernel.played().refuse = 4;
    running
        .snapshots
        .send_replace(Some(cluster(&["10.244.1.0/24", "10.244.7.0/24"])));
    running
        .until(Result::is_err)
        .await
        .expect_err("the kernel refuses");
    let error = running
        .call(Command::Status, "x", json!({}))
        .await
        .expect_err("unready");
    assert_eq!(error.code, Code::NotAvailableLimited);
    running.until(Result::is_ok).await.expect("it refuses no more");
    running
        .call(Command::Status, "x", json!({}))
        .await
        .expect("ready");
}
