//! What a new agent finds.

use super::*;

#[tokio::test]
async fn a_restart_on_an_unchanged_cluster_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let first = ready(dir.path(), &kernel).await;
    let address = first.address("web").await;
    drop(first);
    let second = again(dir.path(), &kernel).await;
    assert_eq!(second.network.counters().counts().kernel_writes, 0);
    assert_eq!(second.address("web").await, address);
    assert_eq!(second.network.counters().counts().kernel_writes, 0);
}

/// The journal's lock goes with the old agent's last task.
async fn again(dir: &Path, kernel: &Fake) -> Running {
    tokio::task::yield_now().await;
    ready(dir, kernel).await
}

#[tokio::test]
async fn at_start_attachments_without_links_are_released() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let first = ready(dir.path(), &kernel).await;
    first.add("stays").await.expect("attached");
    first.add("goes").await.expect("attached");
    kernel.lose_link(&AttachmentId::new("goes", "eth0").host_link());
    drop(first);
    let second = again(dir.path(), &kernel).await;
    assert_eq!(second.names(), ["stays"]);
    assert_eq!(second.network.counters().counts().vanished, 1);
}
