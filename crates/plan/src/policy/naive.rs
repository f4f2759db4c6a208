//! The API's text as an evaluator, without a thought for speed: what it says of NetworkPolicy, word by
//! word. It judges the planner.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::{
    Direction, NamedPort, NamespacedName, PolicyPeer, PolicyPod, PolicyPort, PolicyRule, PolicySnapshot,
    PortMatch, Selector, Transport,
};

use super::RuleName;
use super::profile::Profile;

/// Whether a pod of the node may speak with a peer, and because of which rules; an empty list is that
/// no policy isolates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    Free,
    Allowed(BTreeSet<RuleName>),
    Denied,
}

/// Who has an address.
enum Holder {
    Pod(NamespacedName, PolicyPod),
    Unknown,
}

/// A local pod, by an address of its own, and the other side.
pub(super) fn judge(
    snapshot: &PolicySnapshot,
    direction: Direction,
    own: IpAddr,
    peer: IpAddr,
    transport: Transport,
) -> Judgement {
    let mut attachments = snapshot
        .attachments
        .values()
        .filter(|one| one.addresses.contains(&own));
    let (Some(attachment), None) = (attachments.next(), attachments.next()) else {
        return Judgement::Denied;
    };
    if attachment.pod.name.is_empty() {
        return Judgement::Free;
    }
    let name = NamespacedName::new(attachment.pod.namespace.as_str(), attachment.pod.name.as_str());
    let Some(pod) = snapshot.pods.get(&name).filter(|pod| !pod.host_network) else {
        return Judgement::Denied;
    };
    if !same(&attachment.pod.uid, &pod.uid) {
        return Judgement::Denied;
    }
    let isolating = snapshot.policies.iter().filter(|(policy, spec)| {
        let selects = policy.namespace == name.namespace && spec.pods.matches(&pod.labels);
        selects && spec.rules(direction).is_some()
    });
    let (mut isolated, mut allowing) = (false, BTreeSet::new());
    for (policy, spec) in isolating {
        isolated = true;
        for (index, rule) in spec.rules(direction).unwrap_or_default().iter().enumerate() {
            if allows(snapshot, rule, &policy.namespace, direction, pod, peer, transport) {
                allowing.insert(RuleName {
                    policy: policy.clone(),
                    direction,
                    index,
                });
            }
        }
    }
    match (isolated, allowing.is_empty()) {
        (false, _) => Judgement::Free,
        (true, false) => Judgement::Allowed(allowing),
        (true, true) => Judgement::Denied,
    }
}

fn same(one: &str, other: &str) -> bool {
    one.is_empty() || other.is_empty() || one == other
}

fn allows(
    snapshot: &PolicySnapshot,
    rule: &PolicyRule,
    namespace: &str,
    direction: Direction,
    pod: &PolicyPod,
    peer: IpAddr,
    transport: Transport,
) -> bool {
    let holders = holders(snapshot, peer);
    let peers = rule.peers.as_ref();
    let from = peers.is_none_or(|peers| {
        peers
            .iter()
            .any(|one| matches(snapshot, one, namespace, &holders, peer))
    });
    let ports = rule.ports.as_ref();
    from && ports.is_none_or(|ports| {
        ports.iter().any(|one| match direction {
            Direction::Ingress => is_for(one, &pod.ports, transport),
            Direction::Egress => {
                let named = holders.iter().map(|holder| match holder {
                    Holder::Pod(_, pod) => pod.ports.clone(),
                    Holder::Unknown => BTreeSet::new(),
                });
                let named = named.reduce(|one, other| &one & &other).unwrap_or_default();
                is_for(one, &named, transport)
            }
        })
    })
}

/// Whose an address is. More than one if objects contradict each other.
fn holders(snapshot: &PolicySnapshot, address: IpAddr) -> Vec<Holder> {
    let mut holders = Vec::new();
    for (name, pod) in snapshot.pods.iter().filter(|(_, pod)| !pod.host_network) {
        let attached = snapshot.attachments.values().filter(|one| {
            one.pod.namespace == name.namespace && one.pod.name == name.name && same(&one.pod.uid, &pod.uid)
        });
        let own: Vec<_> = attached.collect();
        let here = pod.node.as_ref() == Some(&snapshot.node) || !own.is_empty();
        let has = if here {
            own.iter().any(|one| one.addresses.contains(&address))
        } else {
            pod.addresses.contains(&address)
        };
        if has {
            holders.push(Holder::Pod(name.clone(), (**pod).clone()));
        }
    }
    for attachment in snapshot
        .attachments
        .values()
        .filter(|one| one.addresses.contains(&address))
    {
        let name = NamespacedName::new(attachment.pod.namespace.as_str(), attachment.pod.name.as_str());
        let known = !name.name.is_empty()
            && snapshot
                .pods
                .get(&name)
                .is_some_and(|pod| same(&pod.uid, &attachment.pod.uid) && !pod.host_network);
        if !known {
            holders.push(Holder::Unknown);
        }
    }
    if snapshot.node_local.contains(&address) {
        let dns = Profile::dns();
        let pod = PolicyPod {
            labels: dns.labels,
            ports: dns.ports,
            ..PolicyPod::default()
        };
        holders.push(Holder::Pod(NamespacedName::new(dns.namespace, ""), pod));
    }
    holders
}

fn matches(
    snapshot: &PolicySnapshot,
    peer: &PolicyPeer,
    own_namespace: &str,
    holders: &[Holder],
    address: IpAddr,
) -> bool {
    let (namespaces, pods) = match peer {
        PolicyPeer::Block { net, except } => {
            return net.contains(&address) && !except.iter().any(|one| one.contains(&address));
        }
        PolicyPeer::Pods { namespaces, pods } => (namespaces, pods),
    };
    let of_namespace = |selector: &Option<Selector>, namespace: &str| match selector {
        None => namespace == own_namespace,
        Some(selector) => {
            let labels = snapshot.namespaces.get(namespace);
            labels.is_some_and(|labels| selector.matches(labels))
        }
    };
    !holders.is_empty()
        && holders.iter().all(|holder| match holder {
            Holder::Pod(name, pod) => of_namespace(namespaces, &name.namespace) && pods.matches(&pod.labels),
            Holder::Unknown => false,
        })
}

fn is_for(port: &PolicyPort, named: &BTreeSet<NamedPort>, transport: Transport) -> bool {
    let Some((protocol, number)) = transport
        .port()
        .filter(|(protocol, _)| *protocol == port.protocol)
    else {
        return false;
    };
    match &port.ports {
        PortMatch::All => true,
        PortMatch::One(one) => number == *one,
        PortMatch::Range(first, last) => (*first..=*last).contains(&number),
        PortMatch::Named(name) => named
            .iter()
            .any(|one| one.name == *name && one.protocol == protocol && one.port == number),
    }
}
