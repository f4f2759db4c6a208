//! The node's ends of tunnels, made or repaired.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use plan::{NodePlan, Object, Tunnel};

use crate::apply::Kernel;
use crate::link::{Link, LinkChange};
use crate::observe::is_tunnel;
use crate::translate::Indexes;
use crate::vxlan::NewVxlan;
use crate::{Error, Result, sysctl};

/// Makes a tunnel as the plan says, writing only what differs; returns the number of writes.
pub(crate) async fn ensure(kernel: &Kernel, tunnel: &Tunnel, indexes: &mut Indexes<'_>) -> Result<usize> {
    let netlink = &kernel.netlink;
    let (index, mut writes) = match netlink.link(&tunnel.name).await? {
        Some(link) if !is_tunnel(&link) => return Err(Error::LinkTaken(tunnel.name.clone())),
        Some(link) => (link.index, repair(kernel, tunnel, &link).await?),
        None => (create(kernel, tunnel).await?, 1),
    };
    indexes.learn(&tunnel.name, index);
    writes += sysctl::ensure_in(&kernel.netns, &tunnel.sysctls)?;
    writes += addresses(kernel, tunnel, index).await?;
    writes += set_up(kernel, tunnel, index).await?;
    Ok(writes)
}

/// Whether a tunnel becomes one that can't be made of the old by a change.
pub(crate) fn any_is_remade(held: &NodePlan, plan: &NodePlan) -> bool {
    tunnels(plan)
        .any(|tunnel| tunnels(held).any(|held| held.name == tunnel.name && held.vxlan != tunnel.vxlan))
}

/// Removes tunnels of ours that can't become what the plan says by a change; true if there were any.
pub(crate) async fn remove_unfit(kernel: &Kernel, plan: &NodePlan) -> Result<bool> {
    let mut removed = false;
    for tunnel in tunnels(plan) {
        let link = kernel.netlink.link(&tunnel.name).await?;
        if link.is_some_and(|link| is_tunnel(&link) && !fits(&link, tunnel)) {
            removed |= kernel.netlink.delete_link(&tunnel.name).await?;
        }
    }
    Ok(removed)
}

fn tunnels(plan: &NodePlan) -> impl Iterator<Item = &Tunnel> {
    plan.objects().filter_map(|object| match object {
        Object::Tunnel(tunnel) => Some(tunnel),
        _ => None,
    })
}

fn fits(link: &Link, tunnel: &Tunnel) -> bool {
    link.vxlan.as_ref().is_some_and(|found| {
        let same_family = |local: IpAddr| local.is_ipv4() == tunnel.local.is_ipv4();
        found.vxlan == tunnel.vxlan
            && !found.learning
            && found.group.is_none()
            && found.local.is_some_and(same_family)
            && found.dont_fragment == tunnel.local.is_ipv4()
    })
}

async fn create(kernel: &Kernel, tunnel: &Tunnel) -> Result<u32> {
    let netlink = &kernel.netlink;
    let new = NewVxlan {
        name: &tunnel.name,
        address: tunnel.mac,
        mtu: tunnel.mtu,
        vxlan: tunnel.vxlan,
        local: tunnel.local,
    };
    match netlink.add_vxlan(&new).await {
        Err(error) if error.is_exists() => {
            return Err(Error::VniTaken {
                name: tunnel.name.clone(),
                vni: tunnel.vxlan.vni,
                port: tunnel.vxlan.port,
            });
        }
        made => made?,
    }
    let index = netlink.link_index(&tunnel.name).await?;
    match netlink.no_link_local(index).await {
        // A kernel without IPv6 makes no such addresses.
        Err(error) if matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {}
        result => result?,
    }
    Ok(index)
}

async fn repair(kernel: &Kernel, tunnel: &Tunnel, link: &Link) -> Result<usize> {
    let netlink = &kernel.netlink;
    let mut writes = 0;
    let local = link.vxlan.as_ref().and_then(|found| found.local);
    if local != Some(tunnel.local) {
        netlink.set_vxlan_local(link.index, tunnel.local).await?;
        writes += 1;
    }
    let change = LinkChange {
        address: (link.address != Some(tunnel.mac)).then_some(tunnel.mac),
        mtu: (link.mtu != tunnel.mtu).then_some(tunnel.mtu),
        ..LinkChange::default()
    };
    if change.address.is_some() || change.mtu.is_some() {
        netlink.set_link(link.index, &change).await?;
        writes += 1;
    }
    Ok(writes)
}

/// The link is ours alone, so its addresses are those of the plan and no others.
async fn addresses(kernel: &Kernel, tunnel: &Tunnel, index: u32) -> Result<usize> {
    let netlink = &kernel.netlink;
    let wanted: BTreeSet<IpNet> = tunnel.addresses.iter().copied().map(IpNet::from).collect();
    let held = netlink.addresses().await?;
    let held = held
        .iter()
        .filter(|address| address.link == index && address.global);
    let held: BTreeSet<IpNet> = held.map(|address| address.address).collect();
    for address in wanted.difference(&held) {
        netlink.add_address(index, *address).await?;
    }
    for address in held.difference(&wanted) {
        netlink.delete_address(index, *address).await?;
    }
    Ok(wanted.symmetric_difference(&held).count())
}

async fn set_up(kernel: &Kernel, tunnel: &Tunnel, index: u32) -> Result<usize> {
    let link = kernel.netlink.link(&tunnel.name).await?;
    if link.is_some_and(|link| link.up) {
        return Ok(0);
    }
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    match kernel.netlink.set_link(index, &up).await {
        Err(error) if error.errno() == Some(libc::EADDRINUSE) => Err(Error::TunnelPortTaken {
            name: tunnel.name.clone(),
            port: tunnel.vxlan.port,
        }),
        result => result.map(|()| 1),
    }
}
