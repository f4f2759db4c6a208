//! Services: one part each, of one object for each of its ports and families.
//!
//! ```text
//!   Service ─► frontends: its own addresses, node ports, addresses of load balancers
//!                 └─► the set that serves those who come from inside, and from outside
//!   slices ──► endpoints ─► the sets: the cluster's, this node's
//! ```
//!
//! A part depends on its Service and on the [`ServiceContext`] alone, so that what changes in one
//! Service is planned by itself. Programs pick the backend (`bpf/`), at the socket or on the link;
//! where it was the link, our nft table translates to what the packet's mark says.

mod endpoints;
mod maglev;
mod object;
mod resolve;
pub(crate) mod rules;

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::{NodeFacts, Service, ServiceName, Snapshot, Strategy, TrafficPolicy};

pub use object::{BackendSet, Frontend, Scope, ServiceAddress, ServicePort, ServicePortId};
pub(crate) use resolve::resolve;
pub use rules::backends_map;

use crate::blocks::Blocks;
use crate::{Object, Part};
use endpoints::Endpoints;

/// What the parts of all Services depend on beside the Services themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceContext {
    node: String,
    zone: Option<String>,
    /// This node's addresses and its pods' blocks.
    own: Vec<IpNet>,
    external_ips: bool,
    /// Services' addresses that are the node's own.
    node_local: BTreeSet<IpAddr>,
    /// Nodes that don't answer this one.
    unreachable: BTreeSet<String>,
}

impl ServiceContext {
    /// Of the node that `facts` are about.
    pub fn new(snapshot: &Snapshot, facts: &NodeFacts) -> ServiceContext {
        ServiceContext::with_blocks(snapshot, facts, &Blocks::new(snapshot))
    }

    pub(crate) fn with_blocks(snapshot: &Snapshot, facts: &NodeFacts, blocks: &Blocks<'_>) -> ServiceContext {
        let node = snapshot.nodes.get(&facts.name);
        let addresses = node.into_iter().flat_map(|node| &node.addresses);
        let addresses = addresses.map(|address| IpNet::from(*address));
        ServiceContext {
            node: facts.name.clone(),
            zone: node.and_then(|node| node.zone.clone()),
            own: addresses.chain(blocks.of(&facts.name)).collect(),
            external_ips: snapshot.external_ips,
            node_local: snapshot.node_local.clone(),
            unreachable: BTreeSet::new(),
        }
    }

    /// The same, with nodes that don't answer this one: their endpoints are used where there are no others.
    #[must_use]
    pub fn with_unreachable(self, unreachable: BTreeSet<String>) -> ServiceContext {
        ServiceContext { unreachable, ..self }
    }

    /// The nodes that have become unreachable since `before`, or reachable again, if nothing else differs: only
    /// Services with endpoints there are concerned.
    pub fn turned_since(&self, before: &ServiceContext) -> Option<BTreeSet<String>> {
        let alike = self.clone().with_unreachable(before.unreachable.clone());
        let turned = self.unreachable.symmetric_difference(&before.unreachable);
        (alike == *before).then(|| turned.cloned().collect())
    }

    /// Whether an address is one of this node or of its pods.
    fn is_own(&self, address: IpAddr) -> bool {
        self.own.iter().any(|net| net.contains(&address))
    }
}

/// One Service's part.
pub fn plan_service(name: &ServiceName, service: &Service, context: &ServiceContext) -> Part {
    let mut part = Part {
        title: name.to_string(),
        ..Part::default()
    };
    let places = Places::new(service, context, &mut part.notes);
    let mut ports = BTreeMap::new();
    // Whether anybody serves, by family.
    let mut served = [false; 2];
    for port in &service.ports {
        for v4 in places.families() {
            let endpoints = Endpoints::of(service, port, v4, context);
            served[usize::from(v4)] |= endpoints.any;
            let id = ServicePortId {
                service: name.clone(),
                v4,
                protocol: port.protocol,
                port: port.port,
            };
            let frontends = places.frontends(port, v4, endpoints.any);
            if frontends.is_empty() {
                continue;
            }
            let planned = plan_port(id.clone(), service, frontends, endpoints, &mut part.notes);
            match ports.entry(id) {
                Entry::Vacant(entry) => drop(entry.insert(planned)),
                Entry::Occupied(entry) => part.notes.push(format!(
                    "{} is there twice, and the second one is left out",
                    entry.key()
                )),
            }
        }
    }
    part.objects
        .extend(ports.into_values().map(|port| Object::Service(port.into())));
    part.objects.extend(places.addresses().map(|address| {
        Object::ServiceAddress(ServiceAddress {
            service: name.clone(),
            address,
            served: served[usize::from(address.is_ipv4())],
        })
    }));
    part
}

fn plan_port(
    id: ServicePortId,
    service: &Service,
    frontends: Vec<Frontend>,
    endpoints: Endpoints,
    notes: &mut Vec<String>,
) -> ServicePort {
    if endpoints.cluster.len() > maglev::MOST && service.strategy == Strategy::Maglev {
        notes.push(format!(
            "{id} has more than {0} endpoints, and maglev picks among the first {0}: use another strategy",
            maglev::MOST
        ));
    }
    let set = |backends| set(backends, service.strategy);
    let uses_local =
        |frontend: &Frontend| frontend.inside == Scope::Local || frontend.outside == Scope::Local;
    let local = frontends.iter().any(uses_local);
    let ranges: Vec<IpNet> = service.source_ranges.iter().flatten().copied().collect();
    let ranges = IpNet::aggregate(&ranges).into_iter();
    ServicePort {
        lingering: endpoints.lingering.into(),
        cluster: set(endpoints.cluster),
        local: local.then(|| set(endpoints.local)),
        strategy: service.strategy,
        affinity: service.affinity,
        ranges: ranges.filter(|net| net.addr().is_ipv4() == id.v4).collect(),
        frontends,
        id,
    }
}

fn set(backends: Vec<model::Backend>, strategy: Strategy) -> BackendSet {
    let table = match strategy {
        Strategy::Maglev if !backends.is_empty() => Some(maglev::table(&backends)),
        _ => None,
    };
    BackendSet {
        backends: backends.into(),
        table,
    }
}

/// The addresses that a Service is reached at.
struct Places<'a> {
    service: &'a Service,
    cluster_ips: Vec<IpAddr>,
    load_balancer_ips: Vec<IpAddr>,
    external_ips: Vec<IpAddr>,
}

impl<'a> Places<'a> {
    fn new(service: &'a Service, context: &ServiceContext, notes: &mut Vec<String>) -> Places<'a> {
        // At the node's own a server on it answers.
        let own = service.cluster_ips.iter().copied();
        let cluster_ips = own
            .filter(|address| !context.node_local.contains(address))
            .collect();
        let mut of_its_families = |addresses: &[IpAddr], what: &str| -> Vec<IpAddr> {
            let (fit, odd): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| {
                let mut own = service.cluster_ips.iter();
                own.any(|own| own.is_ipv4() == address.is_ipv4())
            });
            notes.extend(odd.iter().map(|address| {
                format!("{what} {address} leads nowhere: the Service has no address of that family (spec.ipFamilies)")
            }));
            fit
        };
        let load_balancer_ips = of_its_families(&service.load_balancer_ips, "the load balancer's address");
        let external_ips = of_its_families(&service.external_ips, "the external IP");
        let external_ips = if context.external_ips || external_ips.is_empty() {
            external_ips
        } else {
            notes.push(
                "spec.externalIPs is left out, as whoever may write Services could have anybody's traffic by it: \
                 the agents' setting network.externalIps allows it"
                    .to_owned(),
            );
            Vec::new()
        };
        Places {
            service,
            cluster_ips,
            load_balancer_ips,
            external_ips,
        }
    }

    /// The families that the Service has; `true` is IPv4.
    fn families(&self) -> impl Iterator<Item = bool> + use<> {
        let has = |v4| self.service.cluster_ips.iter().any(|own| own.is_ipv4() == v4);
        let families = [true, false].map(|v4| has(v4).then_some(v4));
        families.into_iter().flatten()
    }

    /// Every address that is the Service's alone, once.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let external = self.load_balancer_ips.iter().chain(&self.external_ips);
        self.cluster_ips.iter().chain(external).copied()
    }

    /// Where a port of it is reached; `any` says whether somebody serves it, here or elsewhere.
    fn frontends(&self, port: &model::ServicePort, v4: bool, any: bool) -> Vec<Frontend> {
        let scope = |policy| match policy {
            TrafficPolicy::Cluster => Scope::Cluster,
            TrafficPolicy::Local => Scope::Local,
        };
        let internal = scope(self.service.internal_policy);
        let external = scope(self.service.external_policy);
        let inside = |address: &IpAddr| Frontend {
            address: *address,
            port: port.port,
            inside: internal,
            outside: internal,
            keeps_source: false,
            silent: false,
            restricted: false,
        };
        // From the cluster these addresses are a way out and in again: neither policy applies.
        let outside = |address: IpAddr, port: u16| Frontend {
            address,
            port,
            inside: Scope::Cluster,
            outside: external,
            keeps_source: external == Scope::Local,
            silent: external == Scope::Local && any,
            restricted: false,
        };
        let fits = |address: &&IpAddr| address.is_ipv4() == v4;
        let own = self.cluster_ips.iter().filter(fits).map(inside);
        let load_balancers = self.load_balancer_ips.iter().filter(fits);
        let load_balancers = load_balancers.map(|address| Frontend {
            restricted: self.service.source_ranges.is_some(),
            ..outside(*address, port.port)
        });
        let others = self.external_ips.iter().filter(fits);
        let others = others.map(|address| outside(*address, port.port));
        let nodes = port
            .node_port
            .map(|node_port| outside(any_address(v4), node_port));
        own.chain(load_balancers).chain(others).chain(nodes).collect()
    }
}

/// What stands for each of the node's own addresses.
pub fn any_address(v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}
