//! A cluster of nodes on a [`Lan`], each with its own kernel and pods.

use std::net::IpAddr;

use ipnet::IpNet;
use kernel::{Applied, Hooks, Kernel, NetNs, facts};
use model::{Attachment, AttachmentId, Node, NodeFacts, PodNetwork, PodNetworkMode, PodRef, Snapshot};
use plan::NodePlan;
use testkit::{Lan, TestNs};

/// Which families the pods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stack {
    V4,
    V6,
    Dual,
}

impl Stack {
    fn has(self, address: &IpAddr) -> bool {
        match self {
            Stack::V4 => address.is_ipv4(),
            Stack::V6 => address.is_ipv6(),
            Stack::Dual => true,
        }
    }
}

/// A pod: a namespace attached to a node.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) netns: TestNs,
    pub(crate) id: AttachmentId,
    pub(crate) addresses: Vec<IpAddr>,
}

/// A cluster.
pub(crate) struct Cluster {
    pub(crate) lan: Lan,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) facts: Vec<NodeFacts>,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) pods: Vec<Pod>,
    stack: Stack,
    underlay: Stack,
    hooks: Hooks,
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// The address of the same family.
pub(crate) fn alike(addresses: &[IpAddr], like: IpAddr) -> IpAddr {
    *addresses
        .iter()
        .find(|address| address.is_ipv4() == like.is_ipv4())
        .unwrap()
}

pub(crate) fn name(node: usize) -> String {
    format!("node{node}")
}

fn open(node: &TestNs, hooks: Hooks) -> Kernel {
    Kernel::with_hooks(NetNs::open(node.path()).unwrap(), node.pins(), hooks).unwrap()
}

impl Cluster {
    /// A cluster whose nodes have no pods and nothing applied yet.
    pub(crate) async fn new(count: u8, stack: Stack) -> Cluster {
        Cluster::on(Lan::new(count).await, stack, stack, PodNetworkMode::Auto).await
    }

    /// A cluster on these links, whose nodes have addresses of the families of `underlay`.
    pub(crate) async fn on(lan: Lan, stack: Stack, underlay: Stack, mode: PodNetworkMode) -> Cluster {
        let mut nodes = std::collections::BTreeMap::new();
        for (n, node) in lan.nodes.iter().enumerate() {
            let blocks = [
                net(&format!("10.244.{n}.0/24")),
                net(&format!("fd00:10:244:{n}::/64")),
            ];
            let addresses = node
                .addresses()
                .into_iter()
                .filter(|address| underlay.has(address))
                .collect();
            let pod_cidrs = blocks
                .into_iter()
                .filter(|block| stack.has(&block.addr()))
                .collect();
            let node = Node {
                addresses,
                pod_cidrs,
                ..Node::default()
            };
            nodes.insert(name(n), node);
        }
        let snapshot = Snapshot {
            nodes,
            pod_network: PodNetwork {
                mode,
                ..PodNetwork::default()
            },
            ..Snapshot::default()
        };
        let hooks = Hooks::probe();
        let (mut kernels, mut facts) = (Vec::new(), Vec::new());
        for (n, node) in lan.nodes.iter().enumerate() {
            kernels.push(open(&node.netns, hooks));
            let addresses = &snapshot.nodes[&name(n)].addresses;
            let mut found = facts::facts(&node.netns.netlink(), &name(n), addresses)
                .await
                .unwrap();
            found.uplink.addresses.retain(|net| underlay.has(&net.addr()));
            facts.push(found);
        }
        let snapshots = vec![snapshot; lan.nodes.len()];
        Cluster {
            lan,
            kernels,
            facts,
            snapshots,
            pods: Vec::new(),
            stack,
            underlay,
            hooks,
        }
    }

    /// A cluster with `pods` on every node, applied.
    pub(crate) async fn running(count: u8, pods: usize, stack: Stack) -> Cluster {
        Cluster::new(count, stack).await.with_pods(pods).await
    }

    /// A cluster with `pods` on every node, applied, whose programs hang there.
    pub(crate) async fn hooked(hooks: Hooks, count: u8, pods: usize, stack: Stack) -> Cluster {
        let mut cluster = Cluster::new(count, stack).await;
        cluster.hooks = hooks;
        for node in 0..cluster.kernels.len() {
            cluster.restart_agent(node);
        }
        cluster.with_pods(pods).await
    }

    /// With `pods` on every node, applied.
    pub(crate) async fn with_pods(mut self, pods: usize) -> Cluster {
        for node in 0..self.kernels.len() {
            for _ in 0..pods {
                self.add_pod(node).await;
            }
        }
        for node in 0..self.kernels.len() {
            self.apply(node).await;
        }
        self
    }

    /// Plugs a node into another link, and tells all nodes of it.
    pub(crate) async fn move_node(&mut self, node: usize, subnet: u8) {
        self.lan.move_to(node, subnet).await;
        let addresses = self.lan.nodes[node].addresses().into_iter();
        let addresses: Vec<IpAddr> = addresses.filter(|address| self.underlay.has(address)).collect();
        let netlink = self.lan.nodes[node].netns.netlink();
        let mut found = facts::facts(&netlink, &name(node), &addresses).await.unwrap();
        found
            .uplink
            .addresses
            .retain(|net| self.underlay.has(&net.addr()));
        self.facts[node] = found;
        for snapshot in &mut self.snapshots {
            let moved = snapshot.nodes.get_mut(&name(node)).unwrap();
            moved.addresses.clone_from(&addresses);
        }
        for node in 0..self.kernels.len() {
            self.apply(node).await;
        }
    }

    /// Puts a pod into a node's snapshot; returns its index.
    pub(crate) async fn add_pod(&mut self, node: usize) -> usize {
        let index = self.pods.len();
        let netns = TestNs::new("pod").await;
        let id = AttachmentId::new(netns.name(), "eth0");
        let host = index + 2;
        let addresses = [
            ip(&format!("10.244.{node}.{host}")),
            ip(&format!("fd00:10:244:{node}::{host:x}")),
        ];
        let addresses: Vec<IpAddr> = addresses
            .into_iter()
            .filter(|address| self.stack.has(address))
            .collect();
        let attachment = Attachment {
            pod: PodRef {
                namespace: "default".into(),
                name: format!("pod{index}"),
                uid: String::new(),
            },
            netns: netns.path().to_string_lossy().into_owned(),
            host_link: id.host_link(),
            addresses: addresses.clone(),
            mtu: plan::pod_mtu(self.snapshots[node].pod_network, &self.facts[node]),
            ..Attachment::default()
        };
        self.snapshots[node].attachments.insert(id.clone(), attachment);
        self.pods.push(Pod { netns, id, addresses });
        index
    }

    pub(crate) fn plan(&self, node: usize) -> NodePlan {
        plan::plan(&self.snapshots[node], &self.facts[node])
    }

    /// Applies a node's plan, which must not fail.
    pub(crate) async fn apply(&mut self, node: usize) -> Applied {
        let plan = self.plan(node);
        let applied = self.kernels[node].apply(&plan).await.unwrap();
        assert!(applied.failures.is_empty(), "{:?}", applied.failures);
        applied
    }

    /// A new agent on a node: it knows nothing of what was written.
    pub(crate) fn restart_agent(&mut self, node: usize) {
        self.kernels[node] = open(&self.lan.nodes[node].netns, self.hooks);
    }
}
