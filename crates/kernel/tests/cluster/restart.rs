//! Restarts, changes and repairs: how much is written.

use std::net::SocketAddr;
use std::time::Duration;

use kernel::Hooks;
use rstest::rstest;
use testkit::{Echo, Pong, ask, eventually, ping};

use crate::fixture::{Cluster, Stack, ip, name, net};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_writes_nothing(#[values(Hooks::probe(), Hooks::Clsact)] hooks: Hooks) {
    let mut cluster = Cluster::hooked(hooks, 2, 3, Stack::Dual).await;
    assert_eq!(cluster.apply(0).await.writes, 0, "the same plan again");
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0, "a new agent, nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_outlives_the_agent() {
    let mut cluster = Cluster::running(2, 1, Stack::V4).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    let server = SocketAddr::new(cluster.pods[1].addresses[0], echo.port);
    drop(cluster.kernels.drain(..));
    assert_eq!(
        ask(&cluster.pods[0].netns, server).unwrap(),
        cluster.pods[0].addresses[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_writes_only_what_it_touches() {
    let mut cluster = Cluster::running(2, 1, Stack::V4).await;
    // Another node appears: two elements, a route, and both for our programs.
    let joined = model::Node {
        addresses: vec![ip("172.30.0.13")],
        pod_cidrs: vec![net("10.244.2.0/24")],
        ..model::Node::default()
    };
    cluster.snapshots[0].nodes.insert(name(2), joined);
    assert_eq!(cluster.apply(0).await.writes, 5);
    // It changes its address: one element more, one less, the same for our programs, the ways replaced.
    cluster.snapshots[0].nodes.get_mut(&name(2)).unwrap().addresses = vec![ip("172.30.0.14")];
    assert_eq!(cluster.apply(0).await.writes, 6);
    cluster.snapshots[0].nodes.remove(&name(2));
    assert_eq!(cluster.apply(0).await.writes, 5);
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_broke_is_repaired_and_only_that() {
    let mut cluster = Cluster::running(2, 2, Stack::Dual).await;
    let node = cluster.lan.nodes[0].netns.netlink();
    let routes = node.own_routes().await.unwrap();
    let lost = routes
        .iter()
        .find(|route| route.destination == net("10.244.1.0/24"))
        .unwrap();
    assert!(node.delete_route(lost).await.unwrap());
    let link = cluster.pods[0].id.host_link();
    assert!(node.delete_link(&link).await.unwrap());
    let inside = cluster.pods[1].netns.netlink();
    let eth0 = inside.link_index("eth0").await.unwrap();
    assert!(
        inside
            .delete_address(eth0, net(&format!("{}/32", cluster.pods[1].addresses[0])))
            .await
            .unwrap()
    );

    cluster.restart_agent(0);
    let applied = cluster.apply(0).await;
    assert!(applied.writes > 0);
    for from in &cluster.pods {
        for to in &cluster.pods {
            for address in &to.addresses {
                assert_eq!(ping(&from.netns, *address, 8).unwrap(), Pong::Reply, "{address}");
            }
        }
    }
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_namespace_fails_alone_and_is_tried_again() {
    let mut cluster = Cluster::running(1, 1, Stack::V4).await;
    let late = cluster.add_pod(0).await;
    let id = cluster.pods[late].id.clone();
    let path = cluster.snapshots[0].attachments[&id].netns.clone();
    cluster.snapshots[0].attachments.get_mut(&id).unwrap().netns = "/run/netns/rt-nothing-here".into();
    let plan = cluster.plan(0);
    let applied = cluster.kernels[0].apply(&plan).await.unwrap();
    assert_eq!(applied.failures.len(), 1);
    assert!(
        applied.failures[0].1.to_string().contains("rt-nothing-here"),
        "{}",
        applied.failures[0].1
    );
    assert_eq!(
        ping(&cluster.lan.nodes[0].netns, cluster.pods[0].addresses[0], 8).unwrap(),
        Pong::Reply
    );

    cluster.snapshots[0].attachments.get_mut(&id).unwrap().netns = path;
    cluster.apply(0).await;
    assert_eq!(
        ping(&cluster.lan.nodes[0].netns, cluster.pods[late].addresses[0], 8).unwrap(),
        Pong::Reply
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_node_answers_itself_is_on_its_loopback_until_it_is_not_wanted() {
    let mut cluster = Cluster::running(2, 1, Stack::Dual).await;
    let own = [ip("10.96.0.10"), ip("fd00:10:96::a")];
    cluster.snapshots[0].node_local = own.into_iter().collect();
    assert_eq!(cluster.apply(0).await.writes, 2);
    for address in own {
        // The kernel takes an address of IPv6 and routes to it a moment later.
        eventually(Duration::from_secs(10), || {
            ping(&cluster.pods[0].netns, address, 8).unwrap() == Pong::Reply
        });
    }
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0, "a new agent, nothing changed");
    cluster.restart_agent(0);
    cluster.snapshots[0].node_local.clear();
    assert_eq!(
        cluster.apply(0).await.writes,
        2,
        "a new agent that doesn't want them"
    );
    for address in own {
        let pong = ping(&cluster.pods[0].netns, address, 8);
        assert!(!matches!(pong, Ok(Pong::Reply)), "{address}: {pong:?}");
    }
}
