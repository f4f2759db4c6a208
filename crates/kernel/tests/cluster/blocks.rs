//! A node with more than one block of a family.

use std::net::SocketAddr;

use model::PodNetworkMode;
use rstest::rstest;
use testkit::{Echo, Lan, ask};

use crate::fixture::{Cluster, Stack, alike, ip, net};

/// Two nodes on one link and one on another, each with two blocks of both families and a pod of each.
async fn cluster(mode: PodNetworkMode) -> Cluster {
    let lan = Lan::routed(&[2, 1]).await;
    let mut cluster = Cluster::on(lan, Stack::Dual, Stack::Dual, mode).await;
    for snapshot in &mut cluster.snapshots {
        for (n, node) in snapshot.nodes.values_mut().enumerate() {
            let more = [format!("10.245.{n}.0/24"), format!("fd00:10:245:{n}::/64")];
            node.pod_cidrs.extend(more.iter().map(|block| net(block)));
        }
    }
    for node in 0..3 {
        cluster.add_pod(node).await;
        let pod = cluster.add_pod(node).await;
        let addresses = vec![
            ip(&format!("10.245.{node}.7")),
            ip(&format!("fd00:10:245:{node}::7")),
        ];
        let id = cluster.pods[pod].id.clone();
        let attachments = &mut cluster.snapshots[node].attachments;
        attachments.get_mut(&id).unwrap().addresses.clone_from(&addresses);
        cluster.pods[pod].addresses = addresses;
    }
    cluster.with_pods(0).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn pods_of_all_blocks_reach_each_other_under_their_own_addresses(
    #[values(PodNetworkMode::Auto, PodNetworkMode::Vxlan)] mode: PodNetworkMode,
) {
    let mut cluster = cluster(mode).await;
    for server in &cluster.pods {
        let echo = Echo::start(&server.netns);
        for client in &cluster.pods {
            for address in &server.addresses {
                let seen = ask(&client.netns, SocketAddr::new(*address, echo.port)).unwrap();
                assert_eq!(seen, alike(&client.addresses, *address), "to {address}");
            }
        }
    }
    for node in 0..3 {
        cluster.restart_agent(node);
        assert_eq!(cluster.apply(node).await.writes, 0);
    }
    // A block that a node gives back leads nowhere, the others stay.
    for snapshot in &mut cluster.snapshots {
        let node = snapshot.nodes.values_mut().last().unwrap();
        node.pod_cidrs.retain(|block| *block != net("10.245.2.0/24"));
    }
    cluster.apply(0).await;
    let (client, echo) = (&cluster.pods[0].netns, Echo::start(&cluster.pods[4].netns));
    ask(client, SocketAddr::new(ip("10.244.2.6"), echo.port)).unwrap();
    let lost = Echo::start(&cluster.pods[5].netns);
    ask(client, SocketAddr::new(ip("fd00:10:245:2::7"), lost.port)).unwrap();
    ask(client, SocketAddr::new(ip("10.245.2.7"), lost.port)).unwrap_err();
}
