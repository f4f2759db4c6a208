//! A port of a Service, as the kernel is to hold it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use model::{Backend, Protocol, ServiceName, Strategy};

/// Which port of which Service, in which family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortId {
    /// The Service.
    pub service: ServiceName,
    /// IPv4 or IPv6.
    pub v4: bool,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the Service's own addresses.
    pub port: u16,
}

/// One port of a Service in one family: where it is reached, and the endpoints that it leads to.
///
/// There are no numbers in it. Those of backends and sets are the kernel's, as those of links are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// Which one.
    pub id: ServicePortId,
    /// Where it is reached.
    pub frontends: Vec<Frontend>,
    /// Endpoints of the whole cluster.
    pub cluster: BackendSet,
    /// Endpoints of this node, where a policy asks for them.
    pub local: Option<BackendSet>,
    /// Endpoints that get nothing new and still serve what they have: only of UDP, where that isn't
    /// known from the connection.
    pub lingering: Box<[SocketAddr]>,
    /// How a backend is picked.
    pub strategy: Strategy,
    /// How long a client stays with its backend, in seconds, if it does.
    pub affinity: Option<u32>,
    /// The sources that frontends with ranges take traffic from.
    pub ranges: Box<[IpNet]>,
}

/// An address of a Service, which answers pings if anybody serves there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAddress {
    /// The Service.
    pub service: ServiceName,
    /// The address.
    pub address: IpAddr,
    /// Whether any of its ports has an endpoint.
    pub served: bool,
}

/// Where a Service's port is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address; zero stands for each of the node's own.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// What serves pods and nodes of the cluster.
    pub inside: Scope,
    /// What serves everybody else.
    pub outside: Scope,
    /// Whether what comes from outside keeps its source.
    pub keeps_source: bool,
    /// Whether what comes from outside and finds no backend here is dropped, as another node may have
    /// one.
    pub silent: bool,
    /// Whether only the port's ranges may.
    pub restricted: bool,
}

/// Which of a port's sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The whole cluster's.
    Cluster,
    /// This node's.
    Local,
}

/// What one choice is made among.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendSet {
    /// The backends, in the order of their addresses.
    pub backends: Box<[Backend]>,
    /// Maglev's table of them, by their places in that order; the strategies that pick any backend
    /// have none.
    pub table: Option<Box<[u16]>>,
}

impl BackendSet {
    /// The backends of the slots that a choice is made among, in order.
    pub fn slots(&self) -> Box<dyn ExactSizeIterator<Item = &Backend> + '_> {
        match &self.table {
            Some(table) => Box::new(table.iter().map(|at| &self.backends[usize::from(*at)])),
            None => Box::new(self.backends.iter()),
        }
    }
}

impl ServicePort {
    /// One of its sets. A scope that it has none for has no backends.
    pub fn set(&self, scope: Scope) -> Option<&BackendSet> {
        match scope {
            Scope::Cluster => Some(&self.cluster),
            Scope::Local => self.local.as_ref(),
        }
    }

    /// Its sets.
    pub fn sets(&self) -> impl Iterator<Item = (Scope, &BackendSet)> {
        [Scope::Cluster, Scope::Local]
            .into_iter()
            .filter_map(|scope| Some((scope, self.set(scope)?)))
    }
}

impl fmt::Display for ServicePortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v4 { "IPv4" } else { "IPv6" };
        write!(f, "{} {}/{} {family}", self.service, self.port, self.protocol)
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServicePortId {
            port, protocol, v4, ..
        } = &self.id;
        let family = if *v4 { "IPv4" } else { "IPv6" };
        write!(f, "port {port}/{protocol} {family} {}", self.strategy)?;
        if let Some(seconds) = self.affinity {
            write!(f, " affinity {seconds}s")?;
        }
        for frontend in &self.frontends {
            write!(f, "\n  frontend {frontend}")?;
        }
        for net in &self.ranges {
            write!(f, "\n  source {net}")?;
        }
        for (scope, set) in self.sets() {
            write!(f, "\n  {scope}")?;
            if let Some(table) = &set.table {
                write!(f, ", table of {}", table.len())?;
            }
            for backend in &set.backends {
                write!(f, "\n    {}", backend.socket)?;
                if backend.local {
                    f.write_str(" local")?;
                }
            }
        }
        for socket in &self.lingering {
            write!(f, "\n  lingering {socket}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served = if self.served { "answers" } else { "refuses" };
        write!(f, "ping {} {served}", self.address)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Cluster => "cluster",
            Scope::Local => "node",
        })
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.is_unspecified() {
            write!(f, "node:{}", self.port)?;
        } else {
            SocketAddr::new(self.address, self.port).fmt(f)?;
        }
        write!(f, " inside {} outside {}", self.inside, self.outside)?;
        for (word, holds) in [
            ("keeps-source", self.keeps_source),
            ("silent", self.silent),
            ("restricted", self.restricted),
        ] {
            if holds {
                write!(f, " {word}")?;
            }
        }
        Ok(())
    }
}
