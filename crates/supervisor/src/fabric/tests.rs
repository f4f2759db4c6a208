//! These need root. The machine is a namespace of the test's own.

use std::path::PathBuf;
use std::time::Duration;

use kernel::netns::named;
use testkit::{Pong, TestNs, eventually, ping};

use super::*;
use crate::cluster::Programs;
use crate::network::{Ranges, Wish};

fn cluster(name: &str) -> Cluster {
    let none = PathBuf::new();
    let programs = Programs {
        ripstop: none.clone(),
        cni: none.clone(),
        images: none.clone(),
        containerd: none.clone(),
        ctr: none.clone(),
        runc: none,
    };
    let ranges = Ranges::choose(&Wish::default(), &[], 2).expect("free");
    let name = name.parse().expect("a valid name");
    Cluster::new(name, 2, ranges, programs).expect("two nodes fit")
}

/// Runs work in the machine's stead.
fn on(machine: &TestNs, work: impl AsyncFnOnce() -> Result<(), Error> + Send) {
    machine.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work()).expect("built");
    });
}

/// The namespaces of a cluster, gone with the test.
struct Names(Cluster);

impl Drop for Names {
    fn drop(&mut self) {
        let nodes = self.0.nodes.iter().map(|node| self.0.name.node_netns(&node.name));
        for name in nodes.chain([self.0.name.switch_netns()]) {
            NetNs::delete_named(&name).expect("removed");
        }
    }
}

async fn machine_and_cluster(test: &str) -> (TestNs, Names) {
    let machine = TestNs::new(test).await;
    let cluster = cluster(&format!("t{}-{test}", std::process::id()));
    on(&machine, async || {
        build_switch(&cluster).await?;
        for node in &cluster.nodes {
            build_node(&cluster, node).await?;
        }
        Ok(())
    });
    (machine, Names(cluster))
}

/// A link that has just come up takes a moment until it carries packets.
fn assert_reaches(from: &NetNs, to: IpAddr) {
    let answers = || ping(from, to, 1400).expect("sent") == Pong::Reply;
    eventually(Duration::from_secs(20), answers);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_server_and_machine_reach_each_other() {
    let (machine, names) = machine_and_cluster("reach").await;
    let cluster = &names.0;
    let open = |name: &str| NetNs::open_named(name).expect("it is there");
    let first = open(&cluster.name.node_netns("node-1"));
    let switch = open(&cluster.name.switch_netns());
    let gateway = cluster.gateway().addr();
    for (from, to) in [
        (&first, cluster.nodes[1].address),
        (&first, cluster.server_address()),
        (&first, gateway),
        (&switch, gateway),
        (&machine, cluster.server_address()),
        (&machine, cluster.nodes[1].address),
    ] {
        assert_reaches(from, to);
    }
    // Done again, it changes nothing.
    on(&machine, async || {
        build_switch(cluster).await?;
        build_node(cluster, &cluster.nodes[0]).await
    });
    assert_eq!(open(&cluster.name.node_netns("node-1")), first);
    assert_reaches(&first, gateway);
    let own_routes = Netlink::open(&first)
        .expect("open")
        .own_routes()
        .await
        .expect("read");
    assert_eq!(own_routes, [], "the agent would remove what it doesn't know");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_comes_back_under_the_same_addresses() {
    let (machine, names) = machine_and_cluster("back").await;
    let cluster = &names.0;
    let node = &cluster.nodes[1];
    let first = NetNs::open_named(&cluster.name.node_netns("node-1")).expect("it is there");
    let ethernet = async || {
        let netns = NetNs::open_named(&cluster.name.node_netns(&node.name)).expect("it is there");
        let link = Netlink::open(&netns)
            .expect("open")
            .link(NODE_LINK)
            .await
            .expect("read");
        link.expect("the node's link").address
    };
    assert_reaches(&first, node.address);
    let before = ethernet().await;
    on(&machine, async || remove_node(cluster, &node.name).await);
    assert!(!named(&cluster.name.node_netns(&node.name)).exists());
    on(&machine, async || build_node(cluster, node).await);
    assert_eq!(ethernet().await, before);
    // What the others have in their neighbour tables is still true.
    assert_reaches(&first, node.address);
}
