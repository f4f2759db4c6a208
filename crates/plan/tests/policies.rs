//! What policies become, as text, and what a packet meets of them on its way.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{
    Attachment, AttachmentId, Endpoint, Labels, NamedPort, NamespacedName, Node, NodeFacts, Packet, PodRef,
    Policy, PolicyAttachment, PolicyPeer, PolicyPod, PolicyPort, PolicyRule, PolicySnapshot, PortMatch,
    Protocol, Selector, Service, ServiceName, ServicePort, Slice, SlicePort, Snapshot, Transport, Uplink,
};
use plan::{NodePlan, PolicyPlan, Trace, Verdict, plan, trace_with_policies};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Name, node, address, labels.
const PODS: [(&str, &str, &str, &str); 4] = [
    ("frontend", "a", "10.244.0.5", "role=frontend"),
    ("other", "a", "10.244.0.6", "role=other"),
    ("db", "a", "10.244.0.7", "role=db"),
    ("far", "b", "10.244.1.5", "role=frontend"),
];

/// Two nodes, four pods, a Service of the database that nodes have a port for, and its policy: 6379/tcp from
/// the frontend, and metrics from a block.
struct Cluster {
    plans: BTreeMap<String, NodePlan>,
    policies: BTreeMap<String, PolicySnapshot>,
}

fn cluster() -> Cluster {
    let nodes = [
        ("a", "172.30.0.11", "10.244.0.0/24"),
        ("b", "172.30.0.12", "10.244.1.0/24"),
    ];
    let list = nodes.map(|(name, address, block)| {
        let node = Node {
            addresses: vec![ip(address)],
            pod_cidrs: vec![block.parse().unwrap()],
            zone: None,
        };
        (name.to_owned(), node)
    });
    let (mut plans, mut policies) = (BTreeMap::new(), BTreeMap::new());
    for (name, address, _) in nodes {
        let own = || PODS.into_iter().filter(|(_, node, ..)| *node == name);
        let snapshot = Snapshot {
            nodes: list.clone().into(),
            attachments: own().map(|pod| attachment(pod.0, pod.2)).collect(),
            services: BTreeMap::from([(ServiceName::new("default", "db"), service())]),
            node_local: BTreeSet::from([ip("10.96.0.10")]),
            ..Snapshot::default()
        };
        let facts = NodeFacts {
            name: name.to_owned(),
            uplink: Uplink {
                name: "eth0".to_owned(),
                mtu: 1500,
                addresses: vec![format!("{address}/24").parse().unwrap()],
            },
            cgroup: Some(format!("/{name}")),
            ..NodeFacts::default()
        };
        plans.insert(name.to_owned(), plan(&snapshot, &facts));
        policies.insert(name.to_owned(), policies_of(name));
    }
    Cluster { plans, policies }
}

fn policies_of(node: &str) -> PolicySnapshot {
    let attached = PODS.into_iter().filter(|(_, own, ..)| *own == node);
    let attached = attached.map(|(name, _, address, _)| {
        let (id, attachment) = attachment(name, address);
        let pod = attachment.pod;
        (
            id,
            PolicyAttachment {
                pod,
                addresses: vec![ip(address)],
            },
        )
    });
    let pods = PODS.into_iter().map(|(name, node, address, text)| {
        let pod = PolicyPod {
            labels: labels(text),
            addresses: vec![ip(address)],
            ports: BTreeSet::from([NamedPort {
                name: "metrics".to_owned(),
                protocol: Protocol::Tcp,
                port: 9121,
            }]),
            node: Some(node.to_owned()),
            ..PolicyPod::default()
        };
        (NamespacedName::new("default", name), Arc::new(pod))
    });
    let namespaces = ["default", "kube-system"].map(|name| {
        let label = Labels::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
        (name.to_owned(), label)
    });
    PolicySnapshot {
        node: node.to_owned(),
        policies: BTreeMap::from([
            (NamespacedName::new("default", "db"), Arc::new(db_policy())),
            (
                NamespacedName::new("default", "frontend"),
                Arc::new(frontend_policy()),
            ),
        ]),
        namespaces: namespaces.into(),
        pods: pods.collect(),
        attachments: attached.collect(),
        node_local: BTreeSet::from([ip("10.96.0.10")]),
    }
}

fn port(protocol: Protocol, ports: PortMatch) -> PolicyPort {
    PolicyPort { protocol, ports }
}

fn db_policy() -> Policy {
    let frontend = PolicyPeer::Pods {
        namespaces: None,
        pods: Selector::label("role", "frontend"),
    };
    let block = PolicyPeer::Block {
        net: "192.0.2.0/24".parse().unwrap(),
        except: BTreeSet::from(["192.0.2.128/25".parse().unwrap()]),
    };
    Policy {
        pods: Selector::label("role", "db"),
        ingress: Some(vec![
            PolicyRule {
                peers: Some(vec![frontend]),
                ports: Some(vec![port(Protocol::Tcp, PortMatch::One(6379))]),
            },
            PolicyRule {
                peers: Some(vec![block]),
                ports: Some(vec![
                    port(Protocol::Tcp, PortMatch::Named("metrics".to_owned())),
                    port(Protocol::Udp, PortMatch::Range(8080, 8090)),
                ]),
            },
        ]),
        egress: None,
    }
}

/// What the frontend sends: to the database, and to the cluster's DNS.
fn frontend_policy() -> Policy {
    let db = PolicyPeer::Pods {
        namespaces: None,
        pods: Selector::label("role", "db"),
    };
    let dns = PolicyPeer::Pods {
        namespaces: Some(Selector::label("kubernetes.io/metadata.name", "kube-system")),
        pods: Selector::label("k8s-app", "kube-dns"),
    };
    Policy {
        pods: Selector::label("role", "frontend"),
        ingress: None,
        egress: Some(vec![
            PolicyRule {
                peers: Some(vec![db]),
                ports: Some(vec![port(Protocol::Tcp, PortMatch::One(6379))]),
            },
            PolicyRule {
                peers: Some(vec![dns]),
                ports: Some(vec![port(Protocol::Udp, PortMatch::Named("dns".to_owned()))]),
            },
        ]),
    }
}

fn attachment(name: &str, address: &str) -> (AttachmentId, Attachment) {
    let attachment = Attachment {
        pod: PodRef {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        },
        netns: format!("/run/netns/{name}"),
        host_link: format!("rip-{name}"),
        addresses: vec![ip(address)],
        mtu: 1500,
        ..Attachment::default()
    };
    (AttachmentId::new(name, "eth0"), attachment)
}

fn service() -> Service {
    let endpoint = Endpoint {
        address: ip("10.244.0.7"),
        node: Some("a".into()),
        ready: true,
        serving: true,
        terminating: false,
        hints: model::Hints::default(),
    };
    let slice = Slice {
        ports: [("", Protocol::Tcp, 6379), ("raw", Protocol::Sctp, 6379)]
            .map(|(name, protocol, port)| SlicePort {
                name: name.to_owned(),
                protocol,
                port,
            })
            .into(),
        endpoints: vec![endpoint],
    };
    let port = |name: &str, protocol, port, node_port| ServicePort {
        name: name.to_owned(),
        protocol,
        port,
        node_port,
    };
    Service {
        cluster_ips: vec![ip("10.96.0.20")],
        ports: vec![
            port("", Protocol::Tcp, 80, Some(30080)),
            port("raw", Protocol::Sctp, 81, None),
        ],
        slices: BTreeMap::from([("db-1".to_owned(), Arc::new(slice))]),
        ..Service::default()
    }
}

impl Cluster {
    fn trace(&self, source: &str, destination: &str, transport: Transport) -> Trace {
        let policies = self.policies.iter();
        let policies = policies.map(|(node, snapshot)| (node.clone(), PolicyPlan::new(snapshot)));
        let packet = Packet {
            source: ip(source),
            destination: ip(destination),
            transport,
        };
        trace_with_policies(&self.plans, &policies.collect(), &packet)
    }
}

#[test]
fn a_plan_is_sets_classes_and_rules() {
    insta::assert_snapshot!(PolicyPlan::new(&policies_of("a")));
}

#[test]
fn the_same_cluster_has_the_same_plan_and_nothing_to_write() {
    let plan = PolicyPlan::new(&policies_of("a"));
    let again = PolicyPlan::new(&policies_of("a"));
    assert!(plan::PolicyTables::diff(&plan.tables, &again.tables).is_empty());
}

#[test]
fn rules_of_both_ends_are_named() {
    insta::assert_snapshot!(cluster().trace("10.244.0.5", "10.244.0.7", Transport::Tcp(6379)));
    insta::assert_snapshot!(cluster().trace("10.244.1.5", "10.244.0.7", Transport::Tcp(6379)));
}

#[test]
fn what_no_rule_allows_is_denied_by_policies_with_names() {
    insta::assert_snapshot!(cluster().trace("10.244.0.6", "10.244.0.7", Transport::Tcp(6379)));
    insta::assert_snapshot!(cluster().trace("10.244.0.5", "10.244.0.6", Transport::Tcp(80)));
}

#[test]
fn a_services_packets_are_judged_by_the_backend() {
    // At the socket, and on the link, where the backend is picked before policies are asked.
    insta::assert_snapshot!(cluster().trace("10.244.1.5", "10.96.0.20", Transport::Tcp(80)));
    insta::assert_snapshot!(cluster().trace("10.244.0.5", "10.96.0.20", Transport::Sctp(81)));
}

#[test]
fn a_node_port_is_judged_by_the_nodes_address_where_it_stands_for_another() {
    // The node with the pod leaves the client's address, the other one doesn't.
    insta::assert_snapshot!(cluster().trace("192.0.2.7", "172.30.0.11", Transport::Tcp(30080)));
    insta::assert_snapshot!(cluster().trace("192.0.2.7", "172.30.0.12", Transport::Tcp(30080)));
}

#[test]
fn a_pods_own_node_is_let_in_and_others_are_not() {
    insta::assert_snapshot!(cluster().trace("172.30.0.11", "10.244.0.7", Transport::Tcp(6379)));
    insta::assert_snapshot!(cluster().trace("172.30.0.12", "10.244.0.7", Transport::Tcp(6379)));
}

#[test]
fn the_cluster_dns_counts_as_a_pod_of_it() {
    insta::assert_snapshot!(cluster().trace("10.244.0.5", "10.96.0.10", Transport::Udp(53)));
    let verdict = cluster()
        .trace("10.244.0.5", "10.96.0.10", Transport::Tcp(53))
        .verdict;
    assert!(matches!(verdict, Verdict::Denied { .. }), "{verdict}");
}

#[test]
fn a_block_leaves_out_its_exceptions_and_named_ports_are_the_pods_own() {
    let verdict = |source: &str, transport| cluster().trace(source, "10.244.0.7", transport).verdict;
    let is_in = |verdict: Verdict| matches!(verdict, Verdict::Delivered { .. });
    assert!(is_in(verdict("192.0.2.7", Transport::Tcp(9121))));
    assert!(!is_in(verdict("192.0.2.7", Transport::Tcp(9122))));
    assert!(!is_in(verdict("192.0.2.200", Transport::Tcp(9121))));
    assert!(is_in(verdict("192.0.2.7", Transport::Udp(8090))));
    assert!(!is_in(verdict("192.0.2.7", Transport::Udp(8091))));
    assert!(!is_in(verdict("192.0.2.7", Transport::Icmp)));
}

#[test]
fn a_pod_reaches_itself_whatever_policies_say() {
    let mut cluster = cluster();
    for policies in cluster.policies.values_mut() {
        let all = Policy {
            ingress: Some(Vec::new()),
            egress: Some(Vec::new()),
            ..Policy::default()
        };
        policies.policies = BTreeMap::from([(NamespacedName::new("default", "deny"), Arc::new(all))]);
    }
    for (destination, transport) in [
        ("10.244.0.7", Transport::Tcp(6379)),
        ("10.96.0.20", Transport::Tcp(80)),
        ("10.96.0.20", Transport::Sctp(81)),
    ] {
        let trace = cluster.trace("10.244.0.7", destination, transport);
        assert!(matches!(trace.verdict, Verdict::Delivered { .. }), "{trace}");
    }
}

#[test]
fn a_pod_that_the_api_does_not_have_is_kept_from_everything() {
    let mut cluster = cluster();
    for policies in cluster.policies.values_mut() {
        policies.pods.remove(&NamespacedName::new("default", "other"));
    }
    insta::assert_snapshot!(cluster.trace("10.244.0.6", "192.0.2.1", Transport::Icmp));
    let plan = PolicyPlan::new(&cluster.policies["a"]);
    assert!(
        plan.notes[0].contains("default/other is attached"),
        "{:?}",
        plan.notes
    );
}
