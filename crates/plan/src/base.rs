//! What a node needs to forward at all: sysctls, our nft table, and a refusal for its own
//! unassigned pod addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use nft::{
    Base, Chain, ChainKind, Elements, Entry, Expr, Family, Field, Hook, Key, KeyType, Policy, Rule, Set,
    Table, priority,
};

use crate::service::rules;
use crate::tunnel::Overlay;
use crate::way::Ways;
use crate::{Element, NextHop, NodeAddress, Object, Part, Route, Sysctl, host_port};

/// Name of our nft table (family inet). Whatever is in it is ours; nothing outside it is.
pub const TABLE: &str = "ripstop";

/// The sets of our table, by family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetName {
    /// Blocks of this node's own pods.
    OwnPods,
    /// Blocks of every node's pods.
    Pods,
    /// Every node's addresses.
    Nodes,
    /// Whom tunnels' packets are taken from: the other nodes' addresses.
    TunnelEnds,
    /// Other destinations that must see pods' own addresses.
    Direct,
    /// Where Services' cluster addresses are from.
    Services,
}

impl SetName {
    const ALL: [SetName; 6] = [
        SetName::OwnPods,
        SetName::Pods,
        SetName::Nodes,
        SetName::TunnelEnds,
        SetName::Direct,
        SetName::Services,
    ];

    /// The set's name in the table.
    pub(crate) const fn of(self, v4: bool) -> &'static str {
        match (self, v4) {
            (SetName::OwnPods, true) => "own_pods4",
            (SetName::OwnPods, false) => "own_pods6",
            (SetName::Pods, true) => "pods4",
            (SetName::Pods, false) => "pods6",
            (SetName::Nodes, true) => "nodes4",
            (SetName::Nodes, false) => "nodes6",
            (SetName::TunnelEnds, true) => "tunnel_ends4",
            (SetName::TunnelEnds, false) => "tunnel_ends6",
            (SetName::Direct, true) => "direct4",
            (SetName::Direct, false) => "direct6",
            (SetName::Services, true) => "services4",
            (SetName::Services, false) => "services6",
        }
    }

    /// Whether it holds blocks of addresses, and not single ones.
    const fn has_blocks(self) -> bool {
        !matches!(self, SetName::Nodes | SetName::TunnelEnds)
    }

    /// An element of the set of the net's family.
    pub(crate) fn element(self, net: IpNet) -> Object {
        let set = self.of(net.addr().is_ipv4()).to_owned();
        Object::Element(Element {
            set,
            key: Key::from(net),
        })
    }
}

/// The base of a node's plan.
pub(crate) fn base(ways: &Ways<'_>, overlay: &Overlay) -> Part {
    let Ways {
        snapshot,
        facts,
        blocks,
    } = *ways;
    let (name, uplink) = (facts.name.as_str(), facts.uplink.name.as_str());
    let mut part = Part {
        title: name.to_owned(),
        notes: blocks.conflicts.clone(),
        ..Part::default()
    };
    let mut table = table();
    table.chains.extend(overlay.guard());
    part.objects.insert(Object::Table(table));
    overlay.add_to(&mut part, ways);
    part.objects.insert(Object::Wire(uplink.to_owned()));
    part.objects.extend(facts.cgroup.clone().map(Object::Sockets));
    part.objects.extend(rules::own_addresses(facts));
    for net in IpNet::aggregate(&snapshot.non_masquerade) {
        part.objects.insert(SetName::Direct.element(net));
    }
    for net in IpNet::aggregate(&Vec::from_iter(snapshot.service_ranges.iter().copied())) {
        part.objects.insert(SetName::Services.element(net));
    }
    part.objects
        .extend(snapshot.node_local.iter().copied().map(Object::Address));
    let Some(node) = snapshot.nodes.get(name) else {
        part.notes.push(format!(
            "node {name} is not in the cluster's list of nodes yet: no pod addresses are known"
        ));
        return part;
    };
    for address in &node.addresses {
        part.objects.insert(SetName::Nodes.element(IpNet::from(*address)));
        part.objects.insert(Object::NodeAddress(NodeAddress {
            address: *address,
            own: true,
        }));
    }
    let own: Vec<IpNet> = blocks.of(name).collect();
    for net in &own {
        part.objects.insert(SetName::OwnPods.element(*net));
        part.objects.insert(SetName::Pods.element(*net));
        // Less specific than the pods' own routes: only unassigned addresses get here, and without
        // it they'd leave by the default route and come back, until their hops are used up.
        part.objects.insert(Object::Route(Route {
            destination: *net,
            to: NextHop::Unreachable,
            source: None,
            mtu: None,
        }));
    }
    part.objects.extend(forwarding(&own));
    part
}

fn forwarding(own: &[IpNet]) -> Vec<Object> {
    let mut sysctls = Vec::new();
    if own.iter().any(|net| net.addr().is_ipv4()) {
        sysctls.push(Object::Sysctl(Sysctl::new("net/ipv4/ip_forward", "1")));
    }
    if own.iter().any(|net| net.addr().is_ipv6()) {
        sysctls.push(Object::Sysctl(Sysctl::new("net/ipv6/conf/all/forwarding", "1")));
    }
    sysctls
}

/// Our table, the same on every node: what differs is in its sets. Nodes with tunnels have more chains.
pub fn table() -> Table {
    let set = |name: SetName, v4| {
        let key = if v4 { KeyType::Ipv4 } else { KeyType::Ipv6 };
        Set::new(name.of(v4), key, name.has_blocks())
    };
    let sets = [true, false]
        .into_iter()
        .flat_map(|v4| SetName::ALL.map(|name| set(name, v4)));
    let postrouting = Chain {
        name: "postrouting".to_owned(),
        base: Some(Base {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: priority::SRCNAT,
            policy: Policy::Accept,
        }),
        rules: host_port::hairpin_rules()
            .into_iter()
            .chain(rules::postrouting_rules())
            .chain([
                masquerade(true, Field::Ip4Source, Field::Ip4Destination),
                masquerade(false, Field::Ip6Source, Field::Ip6Destination),
            ])
            .collect(),
    };
    let mut chains = Vec::from(host_port::chains());
    chains.extend(rules::chains());
    chains.extend([postrouting, clamp(), untranslated()]);
    Table {
        family: Family::Inet,
        name: TABLE.to_owned(),
        sets: sets.chain(host_port::maps()).chain(rules::maps()).collect(),
        chains,
    }
}

/// TCP connections begin with segments that fit their way, through a tunnel for one, so that they
/// needn't find out by losing some.
fn clamp() -> Chain {
    let rule = Rule {
        exprs: vec![Expr::TcpSyn, Expr::ClampMss],
        comment: Some("segments that fit the way".to_owned()),
    };
    Chain {
        name: "mss".to_owned(),
        base: Some(Base {
            kind: ChainKind::Filter,
            hook: Hook::Forward,
            priority: priority::MANGLE,
            policy: Policy::Accept,
        }),
        rules: vec![rule],
    }
}

/// Tells our programs which packets belong to connections that aren't translated: only those may take
/// the shortcut. After everything that translates.
fn untranslated() -> Chain {
    Chain {
        name: "untranslated".to_owned(),
        base: Some(Base {
            kind: ChainKind::Filter,
            hook: Hook::Postrouting,
            priority: priority::SRCNAT + 10,
            policy: Policy::Accept,
        }),
        rules: vec![Rule {
            exprs: vec![Expr::Untranslated, Expr::SetMark(bpf_abi::MARK_UNTRANSLATED)],
            comment: Some("may take the shortcut from now on".to_owned()),
        }],
    }
}

/// What leaves the cluster takes the node's address: from this node's pods, to neither a pod nor a
/// node nor a destination that is configured to see pods' own addresses. By whichever link it
/// leaves, as a node may have more than one way out.
fn masquerade(v4: bool, source: Field, destination: Field) -> Rule {
    Rule {
        exprs: vec![
            Expr::within(source, SetName::OwnPods.of(v4)),
            Expr::outside(destination, SetName::Pods.of(v4)),
            Expr::outside(destination, SetName::Nodes.of(v4)),
            Expr::outside(destination, SetName::Direct.of(v4)),
            Expr::Masquerade { fully_random: true },
        ],
        comment: Some("pods to outside the cluster".to_owned()),
    }
}

/// The elements that a plan's parts give to our table's sets and maps.
pub fn elements<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Elements {
    let elements = objects.into_iter().filter_map(|object| match object {
        Object::Element(element) => Some((element.set.as_str(), Entry::from(element.key.clone()))),
        Object::Mapping(mapping) => Some((mapping.map.as_str(), mapping.entry())),
        _ => None,
    });
    elements.collect()
}

/// The first of the addresses that is of the same family as `like`.
pub(crate) fn same_family(addresses: impl IntoIterator<Item = IpAddr>, like: IpAddr) -> Option<IpAddr> {
    addresses
        .into_iter()
        .find(|address| address.is_ipv4() == like.is_ipv4())
}
