//! Pods that are held to a rate: the queues are there, and packets pass them.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use kernel::qdisc::Qdisc;
use model::{Limits, Rate};
use testkit::{Echo, TestNs, ask};

use crate::fixture::{Cluster, Stack};

const SLOW: Rate = Rate {
    bits: 1_000_000,
    burst: None,
};

impl Cluster {
    fn limit(&mut self, pod: usize, ingress: Option<Rate>, egress: Option<Rate>) {
        let id = self.pods[pod].id.clone();
        let attachment = self.snapshots[0].attachments.get_mut(&id);
        attachment.unwrap().limits = Limits { ingress, egress };
    }

    /// The queues of a pod's link: at the node's end, and at the pod's.
    async fn queues(&self, pod: usize) -> [Qdisc; 2] {
        let pod = &self.pods[pod];
        [
            queue(&self.lan.nodes[0].netns, &pod.id.host_link()).await,
            queue(&pod.netns, "eth0").await,
        ]
    }
}

async fn queue(netns: &TestNs, link: &str) -> Qdisc {
    let netlink = netns.netlink();
    let index = netlink.link_index(link).await.unwrap();
    netlink.root_qdisc(index).await.unwrap().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_limited_pod_receives_and_sends_waits_in_its_queues() {
    let mut cluster = Cluster::running(1, 2, Stack::Dual).await;
    cluster.limit(
        0,
        Some(SLOW),
        Some(Rate {
            bits: 2_000_000,
            ..SLOW
        }),
    );
    cluster.apply(0).await;
    let [receives, sends] = cluster.queues(0).await;
    for (queue, rate) in [(&receives, 125_000), (&sends, 250_000)] {
        assert!(queue.ours && queue.bucket.unwrap().rate == rate, "{queue:?}");
        assert_eq!((queue.drops, queue.overlimits), (0, 0));
    }
    for queue in cluster.queues(1).await {
        assert_eq!(queue.bucket, None, "the other pod is free");
    }

    // Bulk both ways: the echo comes back by the other queue.
    let echo = Echo::start(&cluster.pods[0].netns);
    for address in &cluster.pods[0].addresses {
        ask(&cluster.pods[1].netns, SocketAddr::new(*address, echo.port)).unwrap();
    }
    for queue in cluster.queues(0).await {
        assert!(queue.overlimits > 0, "packets had to wait: {queue:?}");
    }
    // More than can wait is dropped: a second's worth at once, of each direction.
    let to = SocketAddr::new(cluster.pods[0].addresses[0], 9);
    let back = SocketAddr::new(cluster.pods[1].addresses[0], 9);
    for (from, to) in [(1, to), (0, back)] {
        let socket = cluster.pods[from]
            .netns
            .within(|| UdpSocket::bind("0.0.0.0:0"))
            .unwrap();
        for _ in 0..250 {
            // The sender's own queue may say that it is full.
            let _ = socket.send_to(&[0; 1400], to);
        }
    }
    for queue in cluster.queues(0).await {
        assert!(queue.drops > 0, "{queue:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_come_change_and_go_and_a_restart_writes_nothing() {
    let mut cluster = Cluster::running(1, 2, Stack::V4).await;
    // All that Kubernetes allows, and a burst of the runtime's.
    let rates = [1_000, 5_000_000_000_000, 1_000_000_000_000_000].map(|bits| Rate { bits, burst: None });
    let bursts = [Some(8_000_000), Some(8)].map(|burst| Rate { burst, ..SLOW });
    for (count, rate) in rates.into_iter().chain(bursts).enumerate() {
        cluster.limit(0, Some(rate), Some(rate));
        // At first our programs are told, too, that packets must pass the queue.
        let writes = if count == 0 { 3 } else { 2 };
        assert_eq!(cluster.apply(0).await.writes, writes, "{rate:?}");
        cluster.restart_agent(0);
        assert_eq!(cluster.apply(0).await.writes, 0, "{rate:?}");
        for queue in cluster.queues(0).await {
            assert_eq!(queue.bucket.unwrap().rate, rate.bits / 8);
        }
    }
    // A burst that no packet fits into was none: the queue of what is sent stays.
    cluster.limit(0, None, Some(SLOW));
    assert_eq!(cluster.apply(0).await.writes, 2);
    cluster.limit(0, None, None);
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 1);
    for queue in cluster.queues(0).await {
        assert!(!queue.ours, "{queue:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_queue_stays_and_is_named() {
    let mut cluster = Cluster::running(1, 1, Stack::V4).await;
    let link = cluster.pods[0].id.host_link();
    let added = cluster.lan.nodes[0].netns.within(|| {
        let args = "root handle 1: tbf rate 1mbit burst 4kb latency 20ms";
        Command::new("tc")
            .args(["qdisc", "add", "dev", &link])
            .args(args.split(' '))
            .status()
    });
    assert!(
        added
            .expect("tc runs: the tests need Debian's package iproute2")
            .success()
    );
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0, "no limit, no interest");

    cluster.limit(0, Some(SLOW), None);
    let plan = cluster.plan(0);
    let applied = cluster.kernels[0].apply(&plan).await.unwrap();
    let text = applied.failures[0].1.to_string();
    assert!(
        text.contains("has a tbf queue that Ripstop did not make"),
        "{text}"
    );
    let [held, _] = cluster.queues(0).await;
    assert!(held.made && !held.ours, "{held:?}");
}
