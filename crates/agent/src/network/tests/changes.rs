//! The cluster and the paths between its nodes, followed.

use plan::{Identity, Object, PartId};

use super::*;

#[tokio::test]
async fn a_change_of_the_cluster_writes_the_difference_and_leaves_pods_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    running.add("web").await.expect("attached");
    let writes = running.network.counters().counts().kernel_writes;
    let mut snapshot = Snapshot::clone(&cluster(&["10.244.1.0/24"]));
    snapshot.nodes.remove("b");
    running.snapshots.send_replace(Some(Arc::new(snapshot)));
    let seen = async {
        while running.network.counters().counts().applies < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .expect("in time");
    // Node b's route, the same for our programs, its block and its address, the same for our programs.
    assert_eq!(running.network.counters().counts().kernel_writes - writes, 5);
    assert_eq!(kernel.links().len(), 1);
}

#[tokio::test]
async fn a_failed_plan_is_tried_again_from_what_the_kernel_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    kernel.played().refuse = 2;
    let running = ready(dir.path(), &kernel).await;
    let counts = running.network.counters().counts();
    assert_eq!((counts.apply_failures, counts.applies), (2, 1));
}

#[tokio::test]
async fn a_peer_that_cannot_be_written_is_tried_again_and_pods_are_attached_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    kernel.played().refuse_part = Some(PartId::Peer("b".to_owned()));
    let running = ready(dir.path(), &kernel).await;
    running.add("web").await.expect("attached");
    let seen = async {
        while running.network.counters().counts().applies < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .expect("in time");
    assert_eq!(running.network.counters().counts().apply_failures, 1);
}

/// The routes that the kernel holds to a block.
fn route(kernel: &Fake, block: &str) -> Option<plan::Route> {
    let identity = Identity::Route(block.parse().expect("a block"));
    match kernel.played().objects.get(&identity) {
        Some(Object::Route(route)) => Some(route.clone()),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_path_carries_is_found_out_and_followed() {
    let (dir, kernel) = (tempfile::tempdir().expect("a directory"), Fake::default());
    let running = ready(dir.path(), &kernel).await;
    let mut far = Snapshot::clone(&cluster(&["10.244.1.0/24"]));
    let remote: IpAddr = "192.0.2.7".parse().expect("an address");
    far.nodes.get_mut("b").expect("the other node").addresses = vec![remote];
    running.publish(Arc::new(far)).await;
    let mtu = |wanted: Option<u32>| {
        let kernel = kernel.clone();
        async move {
            let held = async || route(&kernel, "10.244.2.0/24").is_some_and(|route| route.mtu == wanted);
            while !held().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        while kernel.played().probed.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(kernel.played().probed[0], [remote].into());
        mtu(None).await;
        // A router on the way has answered.
        kernel.played().path_mtus.insert(remote, 1400);
        mtu(Some(1350)).await;
        // And the path was made wider, long ago.
        kernel.played().path_mtus.clear();
        mtu(None).await;
    })
    .await
    .expect("the path is followed");
}
