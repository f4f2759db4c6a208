//! What policies allow and what they don't, in real kernels.

mod flood;
mod links;
mod ranges;
mod traffic;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{
    NamespacedName, Policy, PolicyAttachment, PolicyPeer, PolicyPod, PolicyPort, PolicyRule, PolicySnapshot,
    PortMatch, Protocol, Selector,
};
use plan::{PolicyPlan, PolicyTables};

use crate::fixture::{Cluster, name, net};

/// The pods of that number in the fixture.
fn pod(number: usize) -> Selector {
    Selector::label("pod", number.to_string())
}

/// Such pods as a peer.
fn from_pod(number: usize) -> PolicyPeer {
    PolicyPeer::Pods {
        namespaces: None,
        pods: pod(number),
    }
}

/// A block of addresses, but for others.
fn block(text: &str, except: &[&str]) -> PolicyPeer {
    PolicyPeer::Block {
        net: net(text),
        except: except.iter().map(|text| net(text)).collect(),
    }
}

fn port(protocol: Protocol, port: u16) -> PolicyPort {
    PolicyPort {
        protocol,
        ports: PortMatch::One(port),
    }
}

/// A rule for peers and ports; without any of them, for all.
fn rule(peers: &[PolicyPeer], ports: &[PolicyPort]) -> PolicyRule {
    PolicyRule {
        peers: (!peers.is_empty()).then(|| peers.to_vec()),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    }
}

/// Isolates a pod in what comes to it, but for these rules.
fn ingress(number: usize, rules: &[PolicyRule]) -> Policy {
    Policy {
        pods: pod(number),
        ingress: Some(rules.to_vec()),
        egress: None,
    }
}

/// Isolates a pod in what it sends, but for these rules.
fn egress(number: usize, rules: &[PolicyRule]) -> Policy {
    Policy {
        pods: pod(number),
        ingress: None,
        egress: Some(rules.to_vec()),
    }
}

impl Cluster {
    /// What a node's kernel is to hold of these policies.
    fn tables(&self, node: usize, policies: &[Policy]) -> PolicyTables {
        let named = |number: usize| NamespacedName::new("default", format!("pod{number}"));
        let pods = self.pods.iter().enumerate().map(|(number, pod)| {
            let on = |snapshot: &model::Snapshot| snapshot.attachments.contains_key(&pod.id);
            let pod = PolicyPod {
                labels: BTreeMap::from([("pod".to_owned(), number.to_string())]),
                addresses: pod.addresses.clone(),
                node: self.snapshots.iter().position(on).map(name),
                ..PolicyPod::default()
            };
            (named(number), Arc::new(pod))
        });
        let attachments = self.snapshots[node].attachments.iter().map(|(id, attachment)| {
            let attachment = PolicyAttachment {
                pod: attachment.pod.clone(),
                addresses: attachment.addresses.clone(),
            };
            (id.clone(), attachment)
        });
        let policies = policies.iter().enumerate().map(|(number, policy)| {
            let name = NamespacedName::new("default", format!("policy{number}"));
            (name, Arc::new(policy.clone()))
        });
        let snapshot = PolicySnapshot {
            node: name(node),
            policies: policies.collect(),
            namespaces: BTreeMap::from([("default".to_owned(), BTreeMap::new())]),
            pods: pods.collect(),
            attachments: attachments.collect(),
            node_local: BTreeSet::new(),
        };
        PolicyPlan::new(&snapshot).tables
    }

    /// Makes all nodes hold these policies; says how much was written.
    fn enforce(&self, policies: &[Policy]) -> usize {
        let nodes = 0..self.kernels.len();
        let writes = nodes.map(|node| {
            let tables = self.tables(node, policies);
            self.kernels[node].apply_policies(&tables).unwrap()
        });
        writes.sum()
    }

    /// A pod's address of a family.
    fn at(&self, pod: usize, v6: bool) -> IpAddr {
        let mut addresses = self.pods[pod].addresses.iter();
        *addresses.find(|address| address.is_ipv6() == v6).unwrap()
    }
}
