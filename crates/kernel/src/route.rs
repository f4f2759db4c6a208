//! Routes of the main table.
//!
//! Every route that Ripstop makes carries protocol number [`PROTOCOL`]; routes with another one
//! belong to somebody else and are never touched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::{Error, Netlink, Result};

/// The protocol number (`ip route … proto 82`) of our routes. 82 is `R` and taken by nobody in
/// iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 82;

/// What happens to a packet that the route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// It's sent on.
    Unicast,
    /// It's refused with an ICMP error.
    Unreachable,
    /// It's dropped.
    Blackhole,
    /// Anything else, which only others make.
    Other,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// What it matches; `0.0.0.0/0` or `::/0` is the default.
    pub destination: IpNet,
    /// What becomes of the packet.
    pub kind: RouteKind,
    /// The next hop, if the destination isn't on the link itself.
    pub gateway: Option<IpAddr>,
    /// Index of the link it leaves by.
    pub link: Option<u32>,
    /// The source address of packets that the node itself sends this way.
    pub source: Option<IpAddr>,
    /// The gateway is on the link although no route says so.
    pub onlink: bool,
    /// Metric; lower wins. `None` is the kernel's default (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
    /// Largest packet, where the path carries less than the link; nothing that the kernel learns
    /// changes it.
    pub mtu: Option<u32>,
    /// Who made it.
    pub protocol: u8,
}

impl Route {
    /// A route of ours with nothing but a destination and a link.
    pub fn to_link(destination: IpNet, link: u32) -> Route {
        Route {
            destination: destination.trunc(),
            kind: RouteKind::Unicast,
            gateway: None,
            link: Some(link),
            source: None,
            onlink: false,
            metric: None,
            mtu: None,
            protocol: PROTOCOL,
        }
    }

    /// A route of ours by a gateway on a link.
    pub fn via(destination: IpNet, gateway: IpAddr, link: u32) -> Route {
        Route {
            gateway: Some(gateway),
            ..Route::to_link(destination, link)
        }
    }

    /// A route of ours that refuses.
    pub fn unreachable(destination: IpNet) -> Route {
        Route {
            kind: RouteKind::Unreachable,
            link: None,
            ..Route::to_link(destination, 0)
        }
    }

    /// The default route of one family.
    pub fn default_via(gateway: IpAddr, link: u32) -> Route {
        Route::via(everything(gateway), gateway, link)
    }
}

/// `0.0.0.0/0` or `::/0`, whichever is of the address's family.
pub fn everything(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

impl Netlink {
    /// All routes of the main table, everybody's.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        self.list_routes(None).await
    }

    /// Our routes of the main table.
    pub async fn own_routes(&self) -> Result<Vec<Route>> {
        self.list_routes(Some(PROTOCOL)).await
    }

    async fn list_routes(&self, protocol: Option<u8>) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.header.protocol = RouteProtocol::from(protocol.unwrap_or_default());
            let objects = self
                .dump(RouteNetlinkMessage::GetRoute(message), || "list routes".into())
                .await?;
            routes.extend(objects.into_iter().filter_map(parse));
        }
        // Kernels before 5.x ignore the filter.
        routes.retain(|route| protocol.is_none_or(|protocol| route.protocol == protocol));
        Ok(routes)
    }

    /// Whether a packet to this address would be taken in here.
    pub(crate) async fn is_local(&self, address: IpAddr) -> Result<bool> {
        let found = self.look_up(address).await?;
        Ok(found.is_some_and(|route| route.header.kind == RouteType::Local))
    }

    /// The largest packet to this address, if a router on the way has said that it's less than what
    /// the link takes. The kernel forgets it after some minutes.
    pub async fn path_mtu(&self, address: IpAddr) -> Result<Option<u32>> {
        let found = self.look_up(address).await?;
        let metrics = found.into_iter().flat_map(|route| route.attributes);
        Ok(metrics
            .filter_map(|attribute| match attribute {
                RouteAttribute::Metrics(metrics) => mtu(&metrics),
                _ => None,
            })
            .next())
    }

    /// The route that a packet to this address would take; none if there's no way.
    async fn look_up(&self, address: IpAddr) -> Result<Option<RouteMessage>> {
        let mut message = RouteMessage::default();
        (
            message.header.address_family,
            message.header.destination_prefix_length,
        ) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(address)));
        let request = || format!("look up the route to {address}");
        match self.get(RouteNetlinkMessage::GetRoute(message), request).await {
            Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(Some(route)),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.errno(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a route, or replaces ours to the same destination. Somebody else's is left, and an error.
    pub async fn replace_route(&self, route: &Route) -> Result<()> {
        // Replacing would take whichever has that destination and metric, whoever made it.
        if self.add_route(route).await? {
            return Ok(());
        }
        let ours = self.list_routes(Some(route.protocol)).await?;
        if !ours
            .iter()
            .any(|ours| ours.destination == route.destination && ours.metric == route.metric)
        {
            return Err(Error::RouteTaken(route.destination));
        }
        self.write_route(route, NLM_F_CREATE | NLM_F_REPLACE).await
    }

    /// Adds a route; false if there is one to that destination with that metric.
    pub async fn add_route(&self, route: &Route) -> Result<bool> {
        match self.write_route(route, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn write_route(&self, route: &Route, flags: u16) -> Result<()> {
        let message = RouteNetlinkMessage::NewRoute(message(route));
        self.execute(message, flags, || format!("set route {}", route.destination))
            .await
    }

    /// Deletes exactly this route; false if it isn't there.
    pub async fn delete_route(&self, route: &Route) -> Result<bool> {
        let message = RouteNetlinkMessage::DelRoute(message(route));
        match self
            .execute(message, 0, || format!("delete route {}", route.destination))
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = match route.destination {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::from(route.protocol);
    header.destination_prefix_length = route.destination.prefix_len();
    header.kind = match route.kind {
        RouteKind::Unicast | RouteKind::Other => RouteType::Unicast,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Blackhole => RouteType::BlackHole,
    };
    // IPv4 wants to know that a destination without gateway is on the link; IPv6 has no scopes.
    let on_link =
        route.kind == RouteKind::Unicast && route.gateway.is_none() && route.destination.addr().is_ipv4();
    header.scope = if on_link {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    if route.onlink {
        header.flags |= RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(RouteAddress::from(
            route.destination.network(),
        )));
    }
    attributes.extend(
        route
            .gateway
            .map(|gateway| RouteAttribute::Gateway(RouteAddress::from(gateway))),
    );
    attributes.extend(route.link.map(RouteAttribute::Oif));
    attributes.extend(
        route
            .source
            .map(|source| RouteAttribute::PrefSource(RouteAddress::from(source))),
    );
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    attributes.extend(
        route
            .mtu
            .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Lock(LOCK_MTU), RouteMetric::Mtu(mtu)])),
    );
    message
}

/// IPv6 reports its default metric as a number and hangs routes without a link on loopback.
const IPV6_DEFAULT_METRIC: u32 = 1024;

fn parse(object: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = object else {
        return None;
    };
    let header = &message.header;
    let v6 = header.address_family == AddressFamily::Inet6;
    let any = if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    let mut table = u32::from(header.table);
    let (mut destination, mut gateway, mut link, mut source, mut metric) = (any, None, None, None, None);
    let mut mtu = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Priority(priority) => metric = Some(*priority),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Metrics(metrics) => mtu = locked_mtu(metrics),
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::BlackHole => RouteKind::Blackhole,
        _ => RouteKind::Other,
    };
    Some(Route {
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        kind,
        gateway,
        link: link.filter(|_| kind == RouteKind::Unicast || kind == RouteKind::Other),
        source,
        onlink: header.flags.contains(RouteFlags::Onlink),
        metric: metric.filter(|metric| !v6 || *metric != IPV6_DEFAULT_METRIC),
        mtu,
        protocol: u8::from(header.protocol),
    })
}

/// `1 << RTAX_MTU`: the MTU among the metrics is to stay as it is.
const LOCK_MTU: u32 = 1 << 2;

fn locked_mtu(metrics: &[RouteMetric]) -> Option<u32> {
    let locked = |metric: &RouteMetric| matches!(metric, RouteMetric::Lock(bits) if bits & LOCK_MTU != 0);
    mtu(metrics).filter(|_| metrics.iter().any(locked))
}

fn mtu(metrics: &[RouteMetric]) -> Option<u32> {
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
