//! A pod's link, made or repaired: the veth pair, and everything in the pod's namespace.

use plan::{PodEnd, Veth};

use crate::apply::Kernel;
use crate::bpf::Role;
use crate::link::{Link, LinkChange, VethEnd};
use crate::observe::is_ours;
use crate::translate::Indexes;
use crate::{Error, NetNs, Netlink, Result, sysctl};

/// Makes the pair as the plan says, writing only what differs; returns the number of writes. If the
/// pair is new its name goes to `born`, unless it fails: then nothing is left of it.
pub(crate) async fn ensure(
    kernel: &Kernel,
    veth: &Veth,
    indexes: &mut Indexes<'_>,
    born: &mut Vec<String>,
) -> Result<usize> {
    let pod = Pod::enter(&veth.pod)?;
    let (existing, inside) = (
        kernel.netlink.link(&veth.name).await?,
        pod.netlink.link(&veth.pod.name).await?,
    );
    if let (Some(near), Some(far)) = (&existing, &inside)
        && paired(near, far, veth)
    {
        indexes.learn(&veth.name, near.index);
        let writes = pod.writes + repair(kernel, veth, near, far, &pod).await?;
        if writes > 0 {
            settle(&kernel.netlink, veth, &pod).await?;
        }
        return Ok(writes);
    }
    make_room(kernel, veth, existing, &pod).await?;
    match create(kernel, veth, &pod).await {
        Ok((index, writes)) => {
            indexes.learn(&veth.name, index);
            born.push(veth.name.clone());
            Ok(pod.writes + writes)
        }
        Err(error) => {
            let _ = kernel.netlink.delete_link(&veth.name).await;
            Err(error)
        }
    }
}

/// The pod's namespace, with its sysctls written and a connection into it.
struct Pod {
    netns: NetNs,
    netlink: Netlink,
    writes: usize,
}

impl Pod {
    fn enter(end: &PodEnd) -> Result<Pod> {
        let netns = NetNs::open(&end.netns)?;
        let runtime = tokio::runtime::Handle::current();
        // One visit for both: a thread that changes its namespace can't be used for anything else.
        let (writes, netlink) = netns.run(|| {
            let mut writes = 0;
            for one in &end.sysctls {
                writes += usize::from(sysctl::ensure(one)?);
            }
            let _runtime = runtime.enter();
            Ok::<_, Error>((writes, Netlink::current()?))
        })??;
        Ok(Pod {
            netns,
            netlink,
            writes,
        })
    }
}

/// Whether these are the two ends of the pair that the plan means. Indexes repeat between
/// namespaces, so both ends must name each other, and the pod's end must have the attachment's own
/// Ethernet address.
fn paired(near: &Link, far: &Link, veth: &Veth) -> bool {
    is_ours(near)
        && far.kind == "veth"
        && near.peer == Some(far.index)
        && far.peer == Some(near.index)
        && far.address == Some(veth.pod.mac)
}

/// Removes what is left of an earlier attempt, and refuses if the pod's interface is another's.
async fn make_room(kernel: &Kernel, veth: &Veth, existing: Option<Link>, pod: &Pod) -> Result<()> {
    if existing.is_some() {
        kernel.netlink.delete_link(&veth.name).await?;
    }
    // Looked at again: it may have been the other end.
    match pod.netlink.link(&veth.pod.name).await? {
        None => Ok(()),
        Some(_) => Err(Error::InterfaceTaken {
            netns: veth.pod.netns.clone(),
            interface: veth.pod.name.clone(),
        }),
    }
}

async fn create(kernel: &Kernel, veth: &Veth, pod: &Pod) -> Result<(u32, usize)> {
    let netlink = &kernel.netlink;
    let near = VethEnd {
        name: &veth.name,
        address: Some(veth.mac),
        mtu: Some(veth.mtu),
        ..VethEnd::default()
    };
    let far = VethEnd {
        name: &veth.pod.name,
        address: Some(veth.pod.mac),
        mtu: Some(veth.mtu),
        netns: Some(&pod.netns),
        ..VethEnd::default()
    };
    netlink.add_veth(&near, &far).await?;
    let index = netlink.link_index(&veth.name).await?;
    quiet(netlink, index, &veth.alias).await?;
    // Before the link is up: nothing that the pod ever sends passes unchecked.
    let mut writes = 2 + set_up(kernel, veth, index)?;
    if let Some(shaper) = &veth.shaper {
        netlink.set_shaper(index, shaper).await?;
        writes += 1;
    }
    let inside = pod.netlink.link_index(&veth.pod.name).await?;
    if let Some(shaper) = &veth.pod.shaper {
        pod.netlink.set_shaper(inside, shaper).await?;
        writes += 1;
    }
    writes += furnish(&pod.netlink, inside, &veth.pod).await?;
    // Last: the pod is reached once all of the above holds.
    netlink
        .set_link(
            index,
            &LinkChange {
                up: Some(true),
                ..LinkChange::default()
            },
        )
        .await?;
    settle(netlink, veth, pod).await?;
    Ok((index, writes + 1))
}

/// Waits until the pod's first packet, either way, isn't lost.
async fn settle(netlink: &Netlink, veth: &Veth, pod: &Pod) -> Result<()> {
    pod.netlink.wait_running(&veth.pod.name).await?;
    netlink.wait_running(&veth.name).await?;
    for address in &veth.pod.addresses {
        pod.netlink.wait_address(address.addr()).await?;
    }
    Ok(())
}

/// Says whose link it is, and keeps the kernel from giving it an IPv6 address: nothing talks to it.
async fn quiet(netlink: &Netlink, index: u32, alias: &str) -> Result<()> {
    let change = LinkChange {
        alias: Some(alias),
        ipv6_link_local: Some(false),
        ..LinkChange::default()
    };
    match netlink.set_link(index, &change).await {
        // A kernel without IPv6 makes no such addresses.
        Err(error) if matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            netlink
                .set_link(
                    index,
                    &LinkChange {
                        ipv6_link_local: None,
                        ..change
                    },
                )
                .await
        }
        result => result,
    }
}

/// Our programs on the node's end, and its sysctls; in one visit to the node's namespace.
fn set_up(kernel: &Kernel, veth: &Veth, index: u32) -> Result<usize> {
    let bpf = kernel.bpf.get()?;
    kernel.netns.run(|| {
        let mut writes = bpf.programs().ensure(index, Role::Pod)?;
        for one in &veth.sysctls {
            writes += usize::from(sysctl::ensure(one)?);
        }
        Ok(writes)
    })?
}

/// Addresses, neighbours and routes of a new link in the pod.
async fn furnish(netlink: &Netlink, index: u32, end: &PodEnd) -> Result<usize> {
    for address in &end.addresses {
        netlink.add_address(index, *address).await?;
    }
    netlink
        .set_link(
            index,
            &LinkChange {
                up: Some(true),
                ..LinkChange::default()
            },
        )
        .await?;
    let mut indexes = Indexes::new(netlink);
    indexes.learn(&end.name, index);
    for neighbour in &end.neighbours {
        netlink
            .replace_neighbour(&indexes.neighbour(neighbour).await?)
            .await?;
    }
    for route in &end.routes {
        netlink.replace_route(&indexes.route(route).await?).await?;
    }
    Ok(end.addresses.len() + 1 + end.neighbours.len() + end.routes.len())
}

/// Writes what an existing pair lacks. What else is in the pod, other plugins' addresses and routes
/// for one, stays.
async fn repair(kernel: &Kernel, veth: &Veth, near: &Link, far: &Link, pod: &Pod) -> Result<usize> {
    let mut writes = repair_link(&kernel.netlink, near, veth.mac, veth.mtu).await?;
    if near.alias.as_deref() != Some(&veth.alias) {
        quiet(&kernel.netlink, near.index, &veth.alias).await?;
        writes += 1;
    }
    writes += set_up(kernel, veth, near.index)?;
    writes += kernel.netlink.ensure_shaper(near, veth.shaper.as_ref()).await?;
    writes += repair_link(&pod.netlink, far, veth.pod.mac, veth.mtu).await?;
    writes += pod.netlink.ensure_shaper(far, veth.pod.shaper.as_ref()).await?;
    for address in &veth.pod.addresses {
        writes += usize::from(pod.netlink.add_address(far.index, *address).await?);
    }
    let mut indexes = Indexes::new(&pod.netlink);
    indexes.learn(&veth.pod.name, far.index);
    let neighbours = pod.netlink.neighbours().await?;
    for neighbour in &veth.pod.neighbours {
        let neighbour = indexes.neighbour(neighbour).await?;
        if !neighbours.contains(&neighbour) {
            pod.netlink.replace_neighbour(&neighbour).await?;
            writes += 1;
        }
    }
    let routes = pod.netlink.own_routes().await?;
    for route in &veth.pod.routes {
        let route = indexes.route(route).await?;
        if !routes.contains(&route) {
            pod.netlink.replace_route(&route).await?;
            writes += 1;
        }
    }
    Ok(writes)
}

async fn repair_link(netlink: &Netlink, link: &Link, mac: model::MacAddr, mtu: u32) -> Result<usize> {
    let change = LinkChange {
        address: (link.address != Some(mac)).then_some(mac),
        mtu: (link.mtu != mtu).then_some(mtu),
        up: (!link.up).then_some(true),
        ..LinkChange::default()
    };
    let differs = change.address.is_some() || change.mtu.is_some() || change.up.is_some();
    if differs {
        netlink.set_link(link.index, &change).await?;
    }
    Ok(usize::from(differs))
}
