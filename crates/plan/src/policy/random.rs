//! Random clusters, small enough that things meet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::{
    AttachmentId, Labels, NamedPort, NamespacedName, Operator, PodRef, Policy, PolicyAttachment, PolicyPeer,
    PolicyPod, PolicyPort, PolicyRule, PolicySnapshot, PortMatch, Protocol, Requirement, Selector, Transport,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn namespace() -> impl Strategy<Value = String> {
    word(&["a", "b", "kube-system"])
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(word(&["app", "k8s-app"]), word(&["web", "db", "kube-dns"]), 0..3)
}

pub(super) fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..2_u8, 0..6_u8).prop_map(|(block, pod)| IpAddr::from(Ipv4Addr::new(10, 0, block, pod)));
    let v6 = (0..2_u16, 0..3_u16)
        .prop_map(|(block, pod)| IpAddr::from(Ipv6Addr::new(0xfd00, block, 0, 0, 0, 0, 0, pod)));
    prop_oneof![3 => v4, 1 => v6]
}

fn net() -> impl Strategy<Value = IpNet> {
    (
        address(),
        select(&[0_u8, 8, 23, 24, 29, 31, 32, 64, 127, 128][..]),
    )
        .prop_filter_map("a length that fits", |(address, length)| {
            Some(IpNet::new(address, length).ok()?.trunc())
        })
}

fn selector() -> impl Strategy<Value = Selector> {
    let values = || btree_set(word(&["web", "db", "kube-dns"]), 1..3);
    let operator = prop_oneof![
        4 => values().prop_map(Operator::In),
        1 => values().prop_map(Operator::NotIn),
        1 => Just(Operator::Exists),
        1 => Just(Operator::DoesNotExist),
    ];
    let requirement =
        (word(&["app", "k8s-app"]), operator).prop_map(|(key, operator)| Requirement { key, operator });
    btree_set(requirement, 0..3).prop_map(|requirements| Selector { requirements })
}

fn number() -> impl Strategy<Value = u16> {
    select(&[1_u16, 53, 80, 8080, 65535][..])
}

fn port() -> impl Strategy<Value = PolicyPort> {
    let ports = prop_oneof![
        Just(PortMatch::All),
        number().prop_map(PortMatch::One),
        (number(), number()).prop_map(|(one, other)| PortMatch::Range(one.min(other), one.max(other))),
        word(&["http", "dns"]).prop_map(PortMatch::Named),
    ];
    (select(&Protocol::ALL[..]), ports).prop_map(|(protocol, ports)| PolicyPort { protocol, ports })
}

fn peer() -> impl Strategy<Value = PolicyPeer> {
    let pods = (option::of(selector()), selector())
        .prop_map(|(namespaces, pods)| PolicyPeer::Pods { namespaces, pods });
    let block = (net(), btree_set(net(), 0..3)).prop_map(|(net, except)| PolicyPeer::Block { net, except });
    prop_oneof![2 => pods, 1 => block]
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    (
        option::weighted(0.8, vec(peer(), 0..3)),
        option::weighted(0.7, vec(port(), 0..3)),
    )
        .prop_map(|(peers, ports)| PolicyRule { peers, ports })
}

fn policy() -> impl Strategy<Value = Policy> {
    let rules = || option::weighted(0.7, vec(rule(), 0..3));
    (selector(), rules(), rules()).prop_map(|(pods, ingress, egress)| Policy {
        pods,
        ingress,
        egress,
    })
}

fn pod() -> impl Strategy<Value = PolicyPod> {
    let ports = (word(&["http", "dns"]), select(&Protocol::ALL[..]), number())
        .prop_map(|(name, protocol, port)| NamedPort { name, protocol, port });
    let node = option::of(word(&["here", "there"]));
    (
        word(&["", "1", "2"]),
        labels(),
        vec(address(), 0..3),
        btree_set(ports, 0..3),
        prop::bool::weighted(0.1),
        node,
    )
        .prop_map(|(uid, labels, addresses, ports, host_network, node)| PolicyPod {
            uid,
            labels,
            addresses,
            ports,
            host_network,
            node,
        })
}

fn pod_name() -> impl Strategy<Value = NamespacedName> {
    (namespace(), word(&["p", "q", "r"])).prop_map(|(namespace, name)| NamespacedName { namespace, name })
}

fn attachment() -> impl Strategy<Value = PolicyAttachment> {
    let pod = prop_oneof![
        5 => (pod_name(), word(&["", "1", "2"])).prop_map(|(pod, uid)| PodRef {
            namespace: pod.namespace,
            name: pod.name,
            uid,
        }),
        1 => Just(PodRef::default()),
    ];
    (pod, vec(address(), 1..3)).prop_map(|(pod, addresses)| PolicyAttachment { pod, addresses })
}

pub(super) fn snapshot() -> impl Strategy<Value = PolicySnapshot> {
    let policy_name = (namespace(), word(&["x", "y", "z"]))
        .prop_map(|(namespace, name)| NamespacedName { namespace, name });
    let id = (0..5_u8).prop_map(|number| AttachmentId::new(number.to_string(), "eth0"));
    (
        btree_map(policy_name, policy().prop_map(Into::into), 0..6),
        btree_map(namespace(), labels(), 0..4),
        btree_map(pod_name(), pod().prop_map(Into::into), 0..8),
        btree_map(id, attachment(), 0..5),
        btree_set(address(), 0..2),
    )
        .prop_map(
            |(policies, namespaces, pods, attachments, node_local)| PolicySnapshot {
                node: "here".to_owned(),
                policies,
                namespaces,
                pods,
                attachments,
                node_local,
            },
        )
}

/// What a random cluster's packets can be for.
pub(super) fn transports() -> Vec<Transport> {
    let numbers = [1, 53, 79, 80, 8081, 65535];
    let ported = numbers.iter().flat_map(|port| {
        [
            Transport::Tcp(*port),
            Transport::Udp(*port),
            Transport::Sctp(*port),
        ]
    });
    ported.chain([Transport::Icmp]).collect()
}

/// Every address that a random cluster's pods can have.
pub(super) fn addresses() -> BTreeSet<IpAddr> {
    let v4 = (0..2_u8).flat_map(|block| (0..6_u8).map(move |pod| IpAddr::from([10, 0, block, pod])));
    let v6 = (0..2_u16)
        .flat_map(|block| (0..3_u16).map(move |pod| IpAddr::from([0xfd00, block, 0, 0, 0, 0, 0, pod])));
    v4.chain(v6).chain([IpAddr::from([192, 0, 2, 1])]).collect()
}
