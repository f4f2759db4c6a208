//! Connections that a change of Services leaves behind.
//!
//! A connection that begins with a translation keeps it. Of TCP and SCTP that's as it should be: what
//! began goes on until one end says so. UDP has no end. A client that keeps sending would go on to an
//! endpoint that is gone, or past a Service that came after its first packet, so those connections
//! are forgotten, one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use model::Protocol;
use plan::{ServicePort, ServicePortId};

use super::frontends;
use crate::Result;
use crate::bpf::service::At;
use crate::bpf::services as maps;
use crate::conntrack::{Connection, Conntrack, Which};

const UDP: u8 = Protocol::Udp.number();

/// What is no longer so.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Frontends that didn't lead there until now.
    opened: BTreeSet<At>,
    /// Frontends that lead nowhere any more.
    closed: BTreeSet<At>,
    /// Endpoints that don't serve any more who came by these frontends.
    withdrawn: BTreeMap<SocketAddr, BTreeSet<At>>,
    /// Endpoints that serve nobody any more.
    lost: BTreeSet<SocketAddr>,
    /// Those of the withdrawn, by their ids.
    ids: HashMap<u32, SocketAddr>,
    /// Sets that clients stay with a backend of, and backends that left them.
    left: HashSet<(u32, u32)>,
    /// Ids that are nobody's any more.
    removed: HashSet<u32>,
}

impl Stale {
    /// Of UDP's ports, what differs.
    pub(super) fn learn(
        &mut self,
        id: &ServicePortId,
        before: Option<&ServicePort>,
        after: Option<&ServicePort>,
        id_of: impl Fn(&SocketAddr) -> Option<u32>,
    ) {
        if id.protocol != Protocol::Udp {
            return;
        }
        let places = |port: Option<&ServicePort>| -> BTreeSet<At> {
            let frontends = port.into_iter().flat_map(|port| &port.frontends);
            frontends
                .map(|frontend| frontends::at(id.protocol, frontend))
                .collect()
        };
        let (old, new) = (places(before), places(after));
        self.opened.extend(new.difference(&old));
        self.closed.extend(old.difference(&new));
        let (had, has) = (serving(before), serving(after));
        for socket in had.difference(&has) {
            let withdrawn = self.withdrawn.entry(*socket).or_default();
            withdrawn.extend(&old);
            self.ids.extend(id_of(socket).map(|id| (id, *socket)));
        }
    }

    /// A frontend is gone.
    pub(super) fn close(&mut self, at: At) {
        if at.protocol == UDP {
            self.closed.insert(at);
        }
    }

    /// Nobody's endpoint is there any more.
    pub(super) fn lose(&mut self, socket: SocketAddr) {
        self.lost.insert(socket);
    }

    /// A backend left a set whose clients may stay with it.
    pub(super) fn leave(&mut self, set: u32, id: u32) {
        self.left.insert((set, id));
    }

    /// An id is nobody's any more.
    pub(super) fn remove(&mut self, id: u32) {
        self.removed.insert(id);
    }

    /// Makes our programs forget what they chose.
    /// Says which sockets may have had datagrams' choices, and how many choices there were.
    pub(crate) fn forget_choices(
        &self,
        maps: &maps::Services,
        own: &BTreeSet<IpAddr>,
    ) -> Result<(usize, HashSet<u64>)> {
        let (mut forgotten, mut sockets) = (0, HashSet::new());
        if !self.left.is_empty() || !self.removed.is_empty() {
            let gone = |set, id| self.left.contains(&(set, id)) || self.removed.contains(&id);
            forgotten += maps.forget_clients(gone)?;
        }
        if !self.removed.is_empty() {
            maps.forget_loads(|id| self.removed.contains(&id))?;
        }
        if !self.closed.is_empty() || !self.ids.is_empty() {
            sockets = maps.forget_datagrams(|at, id| {
                let withdrawn = self.ids.get(&id).and_then(|socket| self.withdrawn.get(socket));
                let asked =
                    |places: &BTreeSet<At>| came_by(places, SocketAddr::new(at.address, at.port), own);
                at.protocol == UDP && (asked(&self.closed) || withdrawn.is_some_and(asked))
            })?;
            forgotten += sockets.len();
        }
        Ok((forgotten, sockets))
    }

    /// Forgets the connections; `own` are the node's own addresses.
    pub(crate) fn forget(&self, conntrack: &Conntrack, own: &BTreeSet<IpAddr>) -> Result<usize> {
        let Some(which) = self.asks() else {
            return Ok(0);
        };
        let mut forgotten = 0;
        let connections = conntrack.connections(which)?;
        for connection in connections.iter().filter(|one| self.is_stale(one, own)) {
            forgotten += usize::from(conntrack.delete(connection)?);
        }
        Ok(forgotten)
    }

    /// Whether anything may be stale.
    pub(crate) fn is_empty(&self) -> bool {
        self.asks().is_none() && self.left.is_empty() && self.removed.is_empty()
    }

    /// Which connections have to be looked at.
    fn asks(&self) -> Option<Which> {
        if !self.opened.is_empty() {
            return Some(Which::All);
        }
        let none = self.closed.is_empty() && self.withdrawn.is_empty() && self.lost.is_empty();
        (!none).then_some(Which::Translated)
    }

    fn is_stale(&self, connection: &Connection, own: &BTreeSet<IpAddr>) -> bool {
        if connection.protocol != UDP {
            return false;
        }
        let to = connection.original.destination;
        let came_by = |places: &BTreeSet<At>| came_by(places, to, own);
        if !connection.is_translated() {
            return came_by(&self.opened);
        }
        let by = connection.reply.source;
        came_by(&self.closed) || self.withdrawn.get(&by).is_some_and(came_by) || self.lost.contains(&by)
    }
}

/// Whether one of the frontends is asked at that address: exactly, or as one of all of the node's own.
fn came_by(places: &BTreeSet<At>, asked: SocketAddr, own: &BTreeSet<IpAddr>) -> bool {
    let by = |address| {
        places.contains(&At {
            address,
            protocol: UDP,
            port: asked.port(),
        })
    };
    by(asked.ip()) || own.contains(&asked.ip()) && by(plan::any_address(asked.is_ipv4()))
}

/// The endpoints that a port's connections may go to.
fn serving(port: Option<&ServicePort>) -> BTreeSet<SocketAddr> {
    let Some(port) = port else {
        return BTreeSet::new();
    };
    let sets = port.sets().flat_map(|(_, set)| &set.backends);
    let sockets = sets.map(|backend| backend.socket);
    sockets.chain(port.lingering.iter().copied()).collect()
}
