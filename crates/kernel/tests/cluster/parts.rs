//! ADD and DEL: one part at a time.

use kernel::link::VethEnd;
use plan::{Part, PartId};
use testkit::{Pong, ping};

use crate::fixture::{Cluster, Stack};

/// An applied node without pods, and a pod that is about to be added to it.
async fn with_pod_to_add() -> (Cluster, PartId, Part) {
    let mut cluster = Cluster::running(1, 0, Stack::Dual).await;
    let pod = cluster.add_pod(0).await;
    let id = PartId::Attachment(cluster.pods[pod].id.clone());
    let part = cluster.plan(0).parts[&id].clone();
    (cluster, id, part)
}

#[tokio::test(flavor = "multi_thread")]
async fn add_twice_is_add_once_and_del_removes_all() {
    let (mut cluster, id, part) = with_pod_to_add().await;
    let netlink = cluster.lan.nodes[0].netns.netlink();
    let (routes, neighbours) = (
        netlink.own_routes().await.unwrap(),
        netlink.neighbours().await.unwrap(),
    );
    let links = netlink.links().await.unwrap();

    cluster.kernels[0].apply_part(&id, &part).await.unwrap();
    let made = netlink.links().await.unwrap();
    for address in &cluster.pods[0].addresses {
        assert_eq!(
            ping(&cluster.lan.nodes[0].netns, *address, 8).unwrap(),
            Pong::Reply
        );
    }
    assert_eq!(cluster.kernels[0].apply_part(&id, &part).await.unwrap(), 0);
    assert_eq!(netlink.links().await.unwrap(), made);
    // The plan of the whole node agrees with what ADD did.
    assert_eq!(cluster.apply(0).await.writes, 0);
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);

    cluster.kernels[0].remove_part(&id, &part).await.unwrap();
    assert_eq!(netlink.links().await.unwrap(), links);
    assert_eq!(netlink.own_routes().await.unwrap(), routes);
    assert_eq!(netlink.neighbours().await.unwrap(), neighbours);
    assert_eq!(cluster.pods[0].netns.netlink().link("eth0").await.unwrap(), None);
    assert_eq!(cluster.kernels[0].remove_part(&id, &part).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_packet_after_add_arrives() {
    let mut cluster = Cluster::running(1, 0, Stack::Dual).await;
    for _ in 0..10 {
        let pod = cluster.add_pod(0).await;
        let id = PartId::Attachment(cluster.pods[pod].id.clone());
        let part = cluster.plan(0).parts[&id].clone();
        cluster.kernels[0].apply_part(&id, &part).await.unwrap();
        for address in &cluster.pods[pod].addresses {
            assert_eq!(
                ping(&cluster.lan.nodes[0].netns, *address, 8).unwrap(),
                Pong::Reply,
                "{address}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn del_works_when_the_namespace_is_gone() {
    let (mut cluster, id, part) = with_pod_to_add().await;
    cluster.kernels[0].apply_part(&id, &part).await.unwrap();
    cluster.pods.clear();
    cluster.kernels[0].remove_part(&id, &part).await.unwrap();
    let netlink = cluster.lan.nodes[0].netns.netlink();
    assert!(
        !netlink
            .links()
            .await
            .unwrap()
            .iter()
            .any(|link| link.name.starts_with(model::LINK_PREFIX))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_fails_leaves_nothing() {
    let (cluster, id, part) = with_pod_to_add().await;
    let node = cluster.lan.nodes[0].netns.netlink();
    let links = node.links().await.unwrap();

    // The interface is somebody else's.
    let pod = cluster.pods[0].netns.netlink();
    let (near, far) = (
        VethEnd {
            name: "eth0",
            ..VethEnd::default()
        },
        VethEnd {
            name: "eth1",
            ..VethEnd::default()
        },
    );
    pod.add_veth(&near, &far).await.unwrap();
    let error = cluster.kernels[0].apply_part(&id, &part).await.unwrap_err();
    assert!(
        error.to_string().contains("already has an interface \"eth0\""),
        "{error}"
    );
    assert_eq!(node.links().await.unwrap(), links);
    assert!(pod.delete_link("eth0").await.unwrap());

    // Something at the end is refused: a route whose source isn't the node's.
    let mut broken = part.clone();
    broken.objects = part
        .objects
        .iter()
        .cloned()
        .map(|object| match object {
            plan::Object::Route(mut route) if route.destination.addr().is_ipv6() => {
                route.source = Some("fd00::bad".parse().unwrap());
                plan::Object::Route(route)
            }
            object => object,
        })
        .collect();
    cluster.kernels[0].apply_part(&id, &broken).await.unwrap_err();
    assert_eq!(node.links().await.unwrap(), links);
    assert_eq!(pod.link("eth0").await.unwrap(), None);

    cluster.kernels[0].apply_part(&id, &part).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leftover_of_an_earlier_attempt_is_replaced() {
    let (cluster, id, part) = with_pod_to_add().await;
    let netlink = cluster.lan.nodes[0].netns.netlink();
    let name = cluster.pods[0].id.host_link();
    let (near, far) = (
        VethEnd {
            name: &name,
            ..VethEnd::default()
        },
        VethEnd {
            name: "stray",
            ..VethEnd::default()
        },
    );
    netlink.add_veth(&near, &far).await.unwrap();
    cluster.kernels[0].apply_part(&id, &part).await.unwrap();
    assert_eq!(netlink.link("stray").await.unwrap(), None);
    assert_eq!(
        ping(&cluster.lan.nodes[0].netns, cluster.pods[0].addresses[0], 8).unwrap(),
        Pong::Reply
    );
}
