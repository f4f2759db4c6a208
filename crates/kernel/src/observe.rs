//! What the kernel holds that is ours.

use std::collections::{BTreeSet, HashMap};

use model::LINK_PREFIX;
use plan::{NextHop, Object};

use crate::bpf::{self, Bpf};
use crate::link::Link;
use crate::neigh::Neighbour;
use crate::route::{Route, RouteKind};
use crate::{NetNs, Netlink, Result};

/// What a node's namespace holds that is ours, but for our nft table (which its own diff observes)
/// and the pods' ends of links (which are looked at one by one).
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// All links, everybody's.
    pub(crate) links: Vec<Link>,
    /// Names of our links.
    pub(crate) own_links: Vec<String>,
    /// Links, but for pods', that have programs of ours on them, with their indexes.
    pub(crate) wires: Vec<(String, u32)>,
    /// Our routes, our addresses on the loopback, neighbours on our links, what our tunnels know of the others' ends, links that have
    /// all the programs of a wire, and what our maps hold.
    pub(crate) objects: BTreeSet<Object>,
}

impl Observed {
    /// Reads the namespace that the connection leads into, and the node's maps.
    pub(crate) async fn read(netlink: &Netlink, netns: &NetNs, bpf: &Bpf) -> Result<Observed> {
        let links = netlink.links().await?;
        let names: HashMap<u32, &str> = links
            .iter()
            .map(|link| (link.index, link.name.as_str()))
            .collect();
        let own_links = links
            .iter()
            .filter(|link| is_ours(link) || is_tunnel(link))
            .map(|link| link.name.clone())
            .collect();
        let mut objects: BTreeSet<Object> = bpf.objects(&names, netns.cookie().ok())?.into_iter().collect();
        let wires = netns.run(|| wires(&links, bpf))??;
        objects.extend(wires.whole.into_iter().map(Object::Wire));
        for route in netlink.own_routes().await? {
            objects.extend(planned_route(&route, &names).map(Object::Route));
        }
        let addresses = netlink.addresses().await?.into_iter();
        // Those on other links are held by others than the plan.
        let planned = |link: u32| names.get(&link) == Some(&plan::LOOPBACK);
        objects.extend(
            addresses
                .filter(|address| address.own && planned(address.link))
                .map(|address| Object::Address(address.address.addr())),
        );
        for neighbour in netlink.neighbours().await? {
            objects.extend(planned_neighbour(&neighbour, &names).map(Object::Neighbour));
        }
        for link in links.iter().filter(|link| is_tunnel(link)) {
            for entry in netlink.fdb(link.index).await? {
                objects.insert(Object::Fdb(plan::Fdb {
                    link: link.name.clone(),
                    mac: entry.mac,
                    remote: entry.remote,
                }));
            }
        }
        Ok(Observed {
            own_links,
            wires: wires.any,
            objects,
            links,
        })
    }

    /// Whether the object is there exactly so. Sysctls and links look for themselves.
    pub(crate) fn holds(&self, object: &Object) -> bool {
        self.objects.contains(object)
    }
}

/// Links that have programs of ours on them.
#[derive(Debug, Default)]
struct Wires {
    any: Vec<(String, u32)>,
    whole: Vec<String>,
}

/// The links of others' that carry our programs, and those that carry all of a wire's. Pods' links are
/// looked at when they are repaired.
fn wires(links: &[Link], bpf: &Bpf) -> Result<Wires> {
    let Wires { mut any, mut whole } = Wires::default();
    for link in links.iter().filter(|link| !is_ours(link)) {
        if !bpf.programs().any_on(link.index)? {
            continue;
        }
        any.push((link.name.clone(), link.index));
        if bpf.programs().are_on(link.index, bpf::Role::Wire)? {
            whole.push(link.name.clone());
        }
    }
    Ok(Wires { any, whole })
}

/// Whether a link is one that this crate makes for pods.
pub(crate) fn is_ours(link: &Link) -> bool {
    link.kind == "veth" && link.name.starts_with(LINK_PREFIX)
}

/// Whether a link is this crate's end of tunnels.
pub(crate) fn is_tunnel(link: &Link) -> bool {
    link.vxlan.is_some() && link.name.starts_with(LINK_PREFIX)
}

fn planned_route(route: &Route, names: &HashMap<u32, &str>) -> Option<plan::Route> {
    let link = || {
        route
            .link
            .and_then(|link| names.get(&link))
            .map(|name| (*name).to_owned())
    };
    let to = match (route.kind, route.gateway) {
        (RouteKind::Unicast, Some(gateway)) if route.onlink => NextHop::OnLink {
            gateway,
            link: link()?,
        },
        (RouteKind::Unicast, Some(gateway)) => NextHop::Via {
            gateway,
            link: link()?,
        },
        (RouteKind::Unicast, None) => NextHop::Link(link()?),
        _ => NextHop::Unreachable,
    };
    Some(plan::Route {
        destination: route.destination,
        to,
        source: route.source,
        mtu: route.mtu,
    })
}

fn planned_neighbour(neighbour: &Neighbour, names: &HashMap<u32, &str>) -> Option<plan::Neighbour> {
    let link = names
        .get(&neighbour.link)
        .filter(|name| name.starts_with(LINK_PREFIX))?;
    Some(plan::Neighbour {
        link: (*link).to_owned(),
        address: neighbour.address,
        mac: neighbour.mac,
    })
}
