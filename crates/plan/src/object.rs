//! What a plan is made of: things that the kernel holds.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bpf_abi::program::{CONNECT4, FROM_POD, FROM_WIRE, SENDMSG4, TO_POD, TO_WIRE};
use ipnet::IpNet;
use model::{MacAddr, Protocol, ServiceName, Vxlan};
use nft::{Entry, Key, Table, Tuple};

use crate::{ServiceAddress, ServicePort, ServicePortId, Shaper};

/// One thing the kernel is to hold. The order of the variants is the order of writes, so that a
/// half-applied part is safe: translation and filters before links, links before the routes that
/// lead traffic to them, and what draws traffic to a pod last. Removal goes the other way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A sysctl of the node's namespace.
    Sysctl(Sysctl),
    /// Our nft table, without its sets' elements.
    Table(Table),
    /// An element of a set of our table.
    Element(Element),
    /// This node's end of the tunnels to others.
    Tunnel(Tunnel),
    /// A pod's link, with our programs on it.
    Veth(Veth),
    /// Our programs on a link that leads to other nodes, by its name.
    Wire(String),
    /// Our programs on a control group, for what its sockets do, by the group's path.
    Sockets(String),
    /// A node's address, for our programs.
    NodeAddress(NodeAddress),
    /// A pod's address, for our programs.
    Endpoint(Endpoint),
    /// The way to other nodes' pods, for our programs.
    Forward(Forward),
    /// An address of the node's loopback, beside those that the kernel gives it.
    Address(IpAddr),
    /// Which node the tunnel carries an Ethernet address's frames to.
    Fdb(Fdb),
    /// A permanent neighbour.
    Neighbour(Neighbour),
    /// A route.
    Route(Route),
    /// An element of a map of our table.
    Mapping(Mapping),
    /// A port of the node's loopback, for our programs.
    LoopbackPort(LoopbackPort),
    /// A port of a Service, for our programs and our table.
    Service(Arc<ServicePort>),
    /// A Service's address, for our programs.
    ServiceAddress(ServiceAddress),
}

/// Which thing an object is about: the kernel holds at most one object for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The sysctl of that path.
    Sysctl(String),
    /// Our table.
    Table,
    /// That element of that set.
    Element(Element),
    /// The link of that name.
    Link(String),
    /// That address of the loopback.
    Address(IpAddr),
    /// That Ethernet address on that link.
    Fdb(String, MacAddr),
    /// Our programs on the link of that name.
    Wire(String),
    /// Our programs on that control group.
    Sockets(String),
    /// What our programs know of that address.
    Endpoint(IpAddr),
    /// What our programs know of that block.
    Forward(IpNet),
    /// That address on that link.
    Neighbour(String, IpAddr),
    /// The route to that destination.
    Route(IpNet),
    /// What that key leads to in that map.
    Mapping(String, Tuple),
    /// What that port of that address of the node's loopback leads to.
    LoopbackPort(IpAddr, Protocol, u16),
    /// That port of that Service.
    Service(ServicePortId),
    /// That address of that Service.
    ServiceAddress(ServiceName, IpAddr),
}

impl Object {
    /// Which thing it is about.
    pub fn identity(&self) -> Identity {
        match self {
            Object::Sysctl(sysctl) => Identity::Sysctl(sysctl.key.clone()),
            Object::Table(_) => Identity::Table,
            Object::Element(element) => Identity::Element(element.clone()),
            Object::Tunnel(tunnel) => Identity::Link(tunnel.name.clone()),
            Object::Veth(veth) => Identity::Link(veth.name.clone()),
            Object::Address(address) => Identity::Address(*address),
            Object::Fdb(fdb) => Identity::Fdb(fdb.link.clone(), fdb.mac),
            Object::Wire(link) => Identity::Wire(link.clone()),
            Object::Sockets(group) => Identity::Sockets(group.clone()),
            Object::NodeAddress(node) => Identity::Endpoint(node.address),
            Object::Endpoint(endpoint) => Identity::Endpoint(endpoint.address),
            Object::Forward(forward) => Identity::Forward(forward.destination),
            Object::Neighbour(neighbour) => Identity::Neighbour(neighbour.link.clone(), neighbour.address),
            Object::Route(route) => Identity::Route(route.destination),
            Object::Mapping(mapping) => Identity::Mapping(mapping.map.clone(), mapping.key.clone()),
            Object::LoopbackPort(port) => Identity::LoopbackPort(port.address, port.protocol, port.port),
            Object::Service(port) => Identity::Service(port.id.clone()),
            Object::ServiceAddress(own) => Identity::ServiceAddress(own.service.clone(), own.address),
        }
    }
}

/// A sysctl and its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sysctl {
    /// Its path below `/proc/sys`.
    pub key: String,
    /// Its value, without a newline.
    pub value: String,
    /// Whether it has to be there. One that keeps the kernel from doing something needn't be: a
    /// kernel without it doesn't do that.
    pub required: bool,
}

impl Sysctl {
    /// A sysctl with that value.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Sysctl {
        Sysctl {
            key: key.into(),
            value: value.into(),
            required: true,
        }
    }

    /// A sysctl with that value, where the kernel (or the link, yet) has it.
    pub fn where_there(key: impl Into<String>, value: impl Into<String>) -> Sysctl {
        Sysctl {
            required: false,
            ..Sysctl::new(key, value)
        }
    }
}

/// An element of a set of our table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The set's name.
    pub set: String,
    /// The element.
    pub key: Key,
}

/// A node's end of the tunnels to other nodes: a VXLAN device that learns nothing and floods
/// nothing. It sends what its [`Fdb`] entries say, each to one node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tunnel {
    /// Its name.
    pub name: String,
    /// Its Ethernet address, the same for as long as the node has its name.
    pub mac: MacAddr,
    /// Largest packet inside the tunnel.
    pub mtu: u32,
    /// What tells its packets from other tunnels'.
    pub vxlan: Vxlan,
    /// The node's own address, the source of the packets outside.
    pub local: IpAddr,
    /// Addresses that the node itself has inside the tunnel: the source of what it sends to pods
    /// there, so that they answer by the tunnel, too.
    pub addresses: Vec<IpAddr>,
    /// Sysctls, written before it's set up.
    pub sysctls: Vec<Sysctl>,
}

/// A permanent entry of a tunnel's forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fdb {
    /// Name of the tunnel's link.
    pub link: String,
    /// Ethernet address of the other end.
    pub mac: MacAddr,
    /// The address of the node that has it.
    pub remote: IpAddr,
}

/// A node's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress {
    /// The address.
    pub address: IpAddr,
    /// Whether the node is this one: what is for its ports is then for Services'.
    pub own: bool,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.own { "own" } else { "other node's" };
        write!(f, "address {} {whose}", self.address)
    }
}

/// An element of a map of our table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapping {
    /// The map's name.
    pub map: String,
    /// The key.
    pub key: Tuple,
    /// What it leads to.
    pub data: Tuple,
}

impl Mapping {
    /// As the map holds it.
    pub fn entry(&self) -> Entry {
        Entry {
            key: Key::Joined(self.key.clone()),
            data: Some(self.data.clone()),
        }
    }
}

/// A port of the node's loopback that leads to a pod: for sockets of the node's own alone, whose calls our programs
/// translate. No packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoopbackPort {
    /// The address.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The pod's address and port.
    pub to: SocketAddr,
}

impl fmt::Display for LoopbackPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = SocketAddr::new(self.address, self.port);
        write!(f, "loopback {at}/{} : {}", self.protocol, self.to)
    }
}

/// A pod's link: a veth pair from the node into the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Veth {
    /// Name of the node's end.
    pub name: String,
    /// Ethernet address of the node's end.
    pub mac: MacAddr,
    /// Largest packet, of both ends.
    pub mtu: u32,
    /// A note on the node's end that says whose it is.
    pub alias: String,
    /// Sysctls of the node's end.
    pub sysctls: Vec<Sysctl>,
    /// What holds the pod to a rate of receiving. Packets to the pod must pass it.
    pub shaper: Option<Shaper>,
    /// The pod's end and everything in the pod's namespace.
    pub pod: PodEnd,
}

/// A pod's end of its link, and what else is written into the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodEnd {
    /// Path of the pod's namespace.
    pub netns: String,
    /// The link's name there.
    pub name: String,
    /// The link's Ethernet address there.
    pub mac: MacAddr,
    /// Sysctls, written before the link is made.
    pub sysctls: Vec<Sysctl>,
    /// What holds the pod to a rate of sending.
    pub shaper: Option<Shaper>,
    /// Addresses.
    pub addresses: Vec<IpNet>,
    /// Permanent neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Routes, in order.
    pub routes: Vec<Route>,
}

/// A pod of this node, as our programs know it: they let it send under this address alone, and bring
/// what is for it straight into it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// Name of the node's end of the pod's link.
    pub link: String,
    /// Ethernet address of the pod's end.
    pub mac: MacAddr,
    /// Largest packet that it takes.
    pub mtu: u32,
    /// What it receives must pass the queue of its link.
    pub shaped: bool,
}

/// The way to other nodes' pods, as our programs know it: the same as the route's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forward {
    /// The block of addresses.
    pub destination: IpNet,
    /// The next hop.
    pub gateway: IpAddr,
    /// Name of the link that it's on.
    pub link: String,
    /// Largest packet that passes.
    pub mtu: u32,
}

/// A neighbour that never expires, so that nobody has to ask for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Name of the link.
    pub link: String,
    /// IP address.
    pub address: IpAddr,
    /// Ethernet address.
    pub mac: MacAddr,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// What it matches.
    pub destination: IpNet,
    /// Where to.
    pub to: NextHop,
    /// The source address of what the node itself sends this way.
    pub source: Option<IpAddr>,
    /// Largest packet, where the path carries less than the link.
    pub mtu: Option<u32>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// The destination is on that link.
    Link(String),
    /// By a gateway on that link.
    Via {
        /// The gateway's address.
        gateway: IpAddr,
        /// Name of the link.
        link: String,
    },
    /// By a gateway that is on that link although no address of the link says so: the other end of
    /// a tunnel.
    OnLink {
        /// The gateway's address.
        gateway: IpAddr,
        /// Name of the link.
        link: String,
    },
    /// Nowhere: the sender is told so.
    Unreachable,
}

/// The name of every namespace's loopback.
pub const LOOPBACK: &str = "lo";

/// Objects by what they're about, in the order of writes.
pub(crate) fn by_identity<'a>(
    objects: impl IntoIterator<Item = &'a Object>,
) -> BTreeMap<Identity, &'a Object> {
    objects
        .into_iter()
        .map(|object| (object.identity(), object))
        .collect()
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Sysctl(sysctl) => write!(f, "sysctl {sysctl}"),
            Object::Table(table) => table.fmt(f),
            Object::Element(element) => element.fmt(f),
            Object::Tunnel(tunnel) => tunnel.fmt(f),
            Object::Veth(veth) => veth.fmt(f),
            Object::Address(address) => write!(f, "address {} dev {LOOPBACK}", IpNet::from(*address)),
            Object::Fdb(fdb) => fdb.fmt(f),
            Object::Wire(link) => write!(f, "programs {FROM_WIRE}, {TO_WIRE} dev {link}"),
            Object::NodeAddress(node) => node.fmt(f),
            Object::Sockets(group) => write!(f, "programs {CONNECT4}, {SENDMSG4} … cgroup {group}"),
            Object::Endpoint(endpoint) => endpoint.fmt(f),
            Object::Forward(forward) => forward.fmt(f),
            Object::Neighbour(neighbour) => neighbour.fmt(f),
            Object::Route(route) => route.fmt(f),
            Object::Mapping(mapping) => mapping.fmt(f),
            Object::LoopbackPort(port) => port.fmt(f),
            Object::Service(port) => port.fmt(f),
            Object::ServiceAddress(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.key, self.value)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "element {} {}", self.set, self.key)
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Vxlan { vni, port } = self.vxlan;
        let (name, mac, mtu, local) = (&self.name, self.mac, self.mtu, self.local);
        write!(
            f,
            "vxlan {name} address {mac} mtu {mtu} id {vni} dstport {port} local {local} nolearning"
        )?;
        for sysctl in &self.sysctls {
            write!(f, "\n  sysctl {sysctl}")?;
        }
        for address in &self.addresses {
            write!(f, "\n  address {}", IpNet::from(*address))?;
        }
        Ok(())
    }
}

impl fmt::Display for Fdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fdb {} dst {} dev {}", self.mac, self.remote, self.link)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "element {} {} : {}", self.map, self.key, self.data)
    }
}

impl fmt::Display for Veth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "veth {} address {} mtu {} alias {:?}",
            self.name, self.mac, self.mtu, self.alias
        )?;
        writeln!(f, "  programs {FROM_POD}, {TO_POD}")?;
        for sysctl in &self.sysctls {
            writeln!(f, "  sysctl {sysctl}")?;
        }
        if let Some(shaper) = &self.shaper {
            writeln!(f, "  qdisc {shaper} dev {}", self.name)?;
        }
        self.pod.fmt(f)
    }
}

impl fmt::Display for PodEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  in {}", self.netns)?;
        for sysctl in &self.sysctls {
            writeln!(f, "    sysctl {sysctl}")?;
        }
        write!(f, "    peer {} address {}", self.name, self.mac)?;
        if let Some(shaper) = &self.shaper {
            write!(f, "\n    qdisc {shaper} dev {}", self.name)?;
        }
        for address in &self.addresses {
            write!(f, "\n    address {address} dev {}", self.name)?;
        }
        for neighbour in &self.neighbours {
            write!(f, "\n    {neighbour}")?;
        }
        for route in &self.routes {
            write!(f, "\n    {route}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint {
            address,
            link,
            mac,
            mtu,
            shaped,
        } = self;
        write!(f, "endpoint {address} dev {link} lladdr {mac} mtu {mtu}")?;
        if *shaped { f.write_str(" shaped") } else { Ok(()) }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Forward {
            destination,
            gateway,
            link,
            mtu,
        } = self;
        write!(f, "forward {destination} via {gateway} dev {link} mtu {mtu}")
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "neighbour {} lladdr {} dev {}",
            self.address, self.mac, self.link
        )
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            NextHop::Unreachable => write!(f, "route unreachable {}", self.destination)?,
            NextHop::Link(link) => write!(f, "route {} dev {link}", self.destination)?,
            NextHop::Via { gateway, link } => {
                write!(f, "route {} via {gateway} dev {link}", self.destination)?
            }
            NextHop::OnLink { gateway, link } => {
                write!(f, "route {} via {gateway} dev {link} onlink", self.destination)?
            }
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        self.mtu.map_or(Ok(()), |mtu| write!(f, " mtu lock {mtu}"))
    }
}
