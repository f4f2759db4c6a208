//! Which endpoints serve a port of a Service, as the traffic policies, the hints and the endpoints'
//! own conditions have it; those of nodes that don't answer when there are no others.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use model::{Backend, Endpoint, Protocol, Service, ServicePort};

use super::ServiceContext;

/// The endpoints that serve.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    /// Those that are the whole cluster's, or the nearer ones of them.
    pub(super) cluster: Vec<Backend>,
    /// This node's.
    pub(super) local: Vec<Backend>,
    /// Those that are in neither and still serve what they have; of UDP alone.
    pub(super) lingering: Vec<SocketAddr>,
    /// Whether there is any, here or elsewhere.
    pub(super) any: bool,
}

/// How near the endpoints must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Near {
    SameNode,
    SameZone,
    Anywhere,
}

impl Endpoints {
    /// Those of one port of a Service in one family.
    pub(super) fn of(service: &Service, port: &ServicePort, v4: bool, context: &ServiceContext) -> Endpoints {
        let all = known(service, port, v4);
        let reachable = reachable(&all, context);
        let view = View {
            context,
            all: &reachable,
        };
        let cluster = view.cluster();
        let local = view.local();
        let any = !cluster.is_empty() || all.iter().any(|(_, one)| is_last_resort(one));
        let lingers = |socket: &SocketAddr| {
            let serves = |set: &[Backend]| set.binary_search_by(|backend| backend.socket.cmp(socket)).is_ok();
            !serves(&cluster) && !serves(&local)
        };
        let lingering = match port.protocol {
            Protocol::Udp => {
                let serving = all.iter().filter(|(_, endpoint)| endpoint.serving);
                let sockets = serving.map(|(socket, _)| *socket);
                sockets.filter(lingers).collect()
            }
            Protocol::Tcp | Protocol::Sctp => Vec::new(),
        };
        Endpoints {
            cluster,
            local,
            lingering,
            any,
        }
    }
}

/// Every endpoint of the port, in the order of addresses, once. Where slices disagree about one, as
/// they may while it moves from one to another, it counts as what serves more.
fn known<'a>(service: &'a Service, port: &ServicePort, v4: bool) -> Vec<(SocketAddr, &'a Endpoint)> {
    let mut known: BTreeMap<SocketAddr, &Endpoint> = BTreeMap::new();
    for slice in service.slices.values() {
        let ports = slice
            .ports
            .iter()
            .filter(|own| own.name == port.name && own.protocol == port.protocol);
        for own in ports {
            for endpoint in slice.endpoints.iter().filter(|one| one.address.is_ipv4() == v4) {
                known
                    .entry(SocketAddr::new(endpoint.address, own.port))
                    .and_modify(|held| {
                        if rank(endpoint) > rank(held) {
                            *held = endpoint;
                        }
                    })
                    .or_insert(endpoint);
            }
        }
    }
    known.into_iter().collect()
}

/// Those that are to be used: the ones on nodes that answer, as long as one of them serves. Which node answers is
/// only known from this one, and the API hasn't said yet that the others are gone.
fn reachable<'a>(
    all: &[(SocketAddr, &'a Endpoint)],
    context: &ServiceContext,
) -> Vec<(SocketAddr, &'a Endpoint)> {
    let answers = |endpoint: &Endpoint| {
        let node = endpoint.node.as_deref();
        node.is_none_or(|node| node == context.node || !context.unreachable.contains(node))
    };
    let theirs: Vec<_> = all.iter().filter(|(_, one)| answers(one)).copied().collect();
    match theirs.iter().any(|(_, one)| one.ready || is_last_resort(one)) {
        true => theirs,
        false => all.to_vec(),
    }
}

const fn rank(endpoint: &Endpoint) -> (bool, bool) {
    (endpoint.ready, endpoint.serving)
}

/// Whether an endpoint serves where no ready one does.
const fn is_last_resort(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

/// All endpoints, as one node sees them.
struct View<'a> {
    context: &'a ServiceContext,
    all: &'a [(SocketAddr, &'a Endpoint)],
}

impl View<'_> {
    fn cluster(&self) -> Vec<Backend> {
        let near = self.near();
        let ready = self.those(|endpoint| endpoint.ready && self.is_near(endpoint, near));
        if ready.is_empty() {
            self.those(is_last_resort)
        } else {
            ready
        }
    }

    fn local(&self) -> Vec<Backend> {
        let here = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(self.context.node.as_str());
        let ready = self.those(|endpoint| here(endpoint) && endpoint.ready);
        if ready.is_empty() {
            self.those(|endpoint| here(endpoint) && is_last_resort(endpoint))
        } else {
            ready
        }
    }

    fn those(&self, which: impl Fn(&Endpoint) -> bool) -> Vec<Backend> {
        let those = self.all.iter().filter(|(_, endpoint)| which(endpoint));
        those
            .map(|(socket, _)| Backend {
                socket: *socket,
                local: self.context.is_own(socket.ip()),
            })
            .collect()
    }

    /// Hints count if every ready endpoint has them and one is for this node, or its zone: half of
    /// them would leave all traffic to a few.
    fn near(&self) -> Near {
        let ready = || {
            self.all
                .iter()
                .map(|(_, endpoint)| endpoint)
                .filter(|one| one.ready)
        };
        let counts = |near: Near, hinted: fn(&Endpoint) -> bool| {
            ready().all(|endpoint| hinted(endpoint)) && ready().any(|endpoint| self.is_near(endpoint, near))
        };
        if counts(Near::SameNode, |endpoint| !endpoint.hints.nodes.is_empty()) {
            Near::SameNode
        } else if counts(Near::SameZone, |endpoint| !endpoint.hints.zones.is_empty()) {
            Near::SameZone
        } else {
            Near::Anywhere
        }
    }

    fn is_near(&self, endpoint: &Endpoint, near: Near) -> bool {
        let zone = self.context.zone.as_deref();
        match near {
            Near::SameNode => endpoint
                .hints
                .nodes
                .iter()
                .any(|node| **node == *self.context.node),
            Near::SameZone => endpoint.hints.zones.iter().any(|one| Some(&**one) == zone),
            Near::Anywhere => true,
        }
    }
}
