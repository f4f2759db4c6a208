//! What others put into a node's namespace stays.

use kernel::link::VethEnd;
use kernel::nftables::Nft;
use kernel::route::Route;
use model::MacAddr;
use nft::{Change, Family, Place};

use crate::fixture::{Cluster, Stack, ip, net};

#[tokio::test(flavor = "multi_thread")]
async fn foreign_routes_links_neighbours_and_tables_stay() {
    let mut cluster = Cluster::running(2, 1, Stack::Dual).await;
    let node = &cluster.lan.nodes[0].netns;
    let (netlink, nft) = (node.netlink(), Nft::open(node).unwrap());
    let (near, far) = (
        VethEnd {
            name: "cali123",
            up: true,
            ..VethEnd::default()
        },
        VethEnd {
            name: "peer",
            ..VethEnd::default()
        },
    );
    netlink.add_veth(&near, &far).await.unwrap();
    let uplink = netlink.link_index("eth0").await.unwrap();
    let foreign = Route {
        protocol: 80,
        ..Route::via(net("10.9.0.0/16"), ip("172.30.0.1"), uplink)
    };
    netlink.replace_route(&foreign).await.unwrap();
    let neighbour = kernel::neigh::Neighbour {
        link: uplink,
        address: ip("172.30.0.1"),
        mac: MacAddr::local(3),
    };
    netlink.replace_neighbour(&neighbour).await.unwrap();
    let table = Place::new(Family::Inet, "others");
    nft.change(
        &table,
        &[Change::AddTable, Change::AddChain("chain".into(), None)],
    )
    .unwrap();

    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
    cluster.snapshots[0].attachments.clear();
    cluster.snapshots[0].nodes.clear();
    cluster.apply(0).await;
    assert!(netlink.own_routes().await.unwrap().is_empty());
    assert!(netlink.link("cali123").await.unwrap().is_some());
    assert!(netlink.routes().await.unwrap().contains(&foreign));
    assert!(netlink.neighbours().await.unwrap().contains(&neighbour));
    assert!(nft.observe(&table).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_ours_are_removed_at_the_start() {
    let mut cluster = Cluster::running(1, 2, Stack::Dual).await;
    let netlink = cluster.lan.nodes[0].netns.netlink();
    let gone = cluster.pods[0].id.clone();
    cluster.snapshots[0].attachments.remove(&gone);
    cluster.restart_agent(0);
    cluster.apply(0).await;
    assert_eq!(netlink.link(&gone.host_link()).await.unwrap(), None);
    assert!(
        netlink
            .link(&cluster.pods[1].id.host_link())
            .await
            .unwrap()
            .is_some()
    );
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
}
