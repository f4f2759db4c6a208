//! Measuring paths from network namespaces on this machine, without any pod.
//!
//! Where large packets are lost, pods may not start at all: a node's own connection to the API
//! stalls. So where nodes are namespaces of this machine, their paths are measured from inside
//! these, before anything is asked of the cluster.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread;

use kernel::NetNs;
use path_mtu::{Answerer, Patience, Target};

use crate::paths::{Measured, Path};

/// An end of paths that is a network namespace on this machine: a node, or the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vantage {
    /// What the report calls it, such as `node-1`.
    pub name: String,
    /// Its own addresses; those that it doesn't have at the moment are left out.
    pub addresses: Vec<IpAddr>,
    /// Where the namespace is kept, such as `/run/netns/ripstop-local-node-1`.
    pub netns: PathBuf,
}

/// A vantage that is there, and what answers at its addresses.
struct Open {
    name: String,
    netns: NetNs,
    answerers: Vec<Answerer>,
}

impl Open {
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.answerers.iter().map(Answerer::at)
    }
}

/// Every path between any two of them, in each family that both have.
pub(crate) async fn measure(vantages: Vec<Vantage>) -> Vec<Path> {
    let measured = tokio::task::spawn_blocking(move || measure_all(&vantages));
    measured.await.unwrap_or_default()
}

fn measure_all(vantages: &[Vantage]) -> Vec<Path> {
    // A node that was stopped has no namespace, or none of its addresses: others tell of that.
    let ends: Vec<Open> = vantages.iter().filter_map(open).collect();
    let pairs = ends
        .iter()
        .flat_map(|from| ends.iter().map(move |to| (from, to)))
        .filter(|(from, to)| from.name != to.name);
    let ways = pairs.flat_map(|(from, to)| {
        let both = |at: &SocketAddr| from.addresses().any(|own| own.is_ipv4() == at.is_ipv4());
        to.addresses().filter(both).map(move |at| (from, to, at))
    });
    let ways: Vec<_> = ways.collect();
    thread::scope(|scope| {
        let one = |&(from, to, at): &(&Open, &Open, SocketAddr)| -> Path {
            let measure = || path_mtu::measure(Target::Udp(at), Patience::default());
            let found = from.netns.run(measure).map_err(|error| error.to_string());
            let found = found.and_then(|found| found.map_err(|error| error.to_string()));
            Path {
                from: from.name.clone(),
                to: to.name.clone(),
                address: at.ip(),
                both_ways: false,
                measured: found.map(Measured::from),
            }
        };
        let threads: Vec<_> = ways.iter().map(|way| scope.spawn(move || one(way))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    })
}

fn open(vantage: &Vantage) -> Option<Open> {
    let netns = NetNs::open(&vantage.netns).ok()?;
    let listen = |address: &IpAddr| netns.run(|| Answerer::listen(*address)).ok()?.ok();
    let answerers: Vec<Answerer> = vantage.addresses.iter().filter_map(listen).collect();
    (!answerers.is_empty()).then(|| Open {
        name: vantage.name.clone(),
        netns,
        answerers,
    })
}

#[cfg(test)]
mod tests {
    use testkit::Lan;

    use super::*;
    use crate::paths;

    async fn rows(lan: &Lan) -> Vec<String> {
        let nodes = lan.nodes.iter().enumerate().map(|(number, node)| Vantage {
            name: format!("node-{}", number + 1),
            addresses: node.addresses().to_vec(),
            netns: node.netns.path(),
        });
        let measured = measure(nodes.collect()).await;
        let rows = paths::rows(&measured, None);
        rows.iter().map(|row| format!("{row:?}")).collect()
    }

    async fn set_mtu(netns: &NetNs, link: &str, mtu: u32) {
        let netlink = kernel::Netlink::open(netns).expect("a connection");
        let index = netlink.link_index(link).await.expect("the link");
        let change = kernel::link::LinkChange {
            mtu: Some(mtu),
            ..Default::default()
        };
        netlink.set_link(index, &change).await.expect("its MTU is set");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_port_of_the_switch_that_takes_less_is_found_from_both_sides() {
        let lan = Lan::new(3).await;
        lan.silence();
        let whole = rows(&lan).await;
        assert_eq!(whole.len(), 3 * 2 * 2, "pairs and families: {whole:#?}");
        assert!(whole.iter().all(|row| row.contains("Passed")), "{whole:#?}");

        set_mtu(&lan.switch, &lan.port(1), 1300).await;
        let rows = rows(&lan).await;
        for row in &rows {
            let concerned = row.contains("node-2");
            // A port lets a VLAN tag's four bytes more through.
            let said = row.contains("more than 1304 bytes are lost without a word")
                && row.contains("eth0 on node-")
                && row.contains("to what node-2 is plugged into");
            assert_eq!((concerned, row.contains("Failed")), (said, concerned), "{row}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_whose_link_is_smaller_or_larger_than_the_others_is_named() {
        let lan = Lan::new(2).await;
        lan.silence();
        set_mtu(&lan.nodes[1].netns, "eth0", 1300).await;
        let smaller = rows(&lan).await;
        let there = |row: &&String| row.contains("node-1 → node-2");
        for row in smaller.iter().filter(there) {
            assert!(
                row.contains("eth0 on node-1 sends up to 1500, and eth0 on node-2 takes 1300"),
                "{row}"
            );
        }
        assert!(
            smaller
                .iter()
                .filter(|row| !there(row))
                .all(|row| row.contains("Passed")),
            "{smaller:#?}"
        );

        set_mtu(&lan.nodes[1].netns, "eth0", 9000).await;
        let larger = rows(&lan).await;
        for row in larger.iter().filter(|row| !there(row)) {
            assert!(
                row.contains("eth0 on node-2 sends up to 9000, and eth0 on node-1 takes 1500"),
                "{row}"
            );
            assert!(row.contains("`ip link set eth0 mtu 1500` on node-2"), "{row}");
        }
        assert!(
            larger.iter().filter(there).all(|row| row.contains("Passed")),
            "{larger:#?}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_is_not_there_is_left_to_others() {
        let lan = Lan::new(1).await;
        let gone = Vantage {
            name: "gone".to_owned(),
            addresses: vec![[172, 30, 0, 99].into()],
            netns: "/run/netns/rt-none".into(),
        };
        let without_address = Vantage {
            netns: lan.nodes[0].netns.path(),
            ..gone.clone()
        };
        assert!(measure(vec![gone, without_address]).await.is_empty());
    }
}
