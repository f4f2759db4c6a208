//! The node's real kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;

use kernel::echo::Echoes;
use kernel::link::Link;
use kernel::path::Probes;
use kernel::{Applied, Error, Kernel, NetNs, Netlink};
use kernel::{PolicyCounts, PolicyEvents};
use model::{LINK_PREFIX, NodeFacts};
use plan::{
    Neighbour, NextHop, NodePlan, Object, Part, PartId, PolicyChange, PolicyTables, Route, Shaper, Veth,
};
use tokio::sync::RwLock;

use super::{DataPlane, Services};

/// The kernel as one network namespace shows it.
#[derive(Debug)]
pub struct NodeKernel {
    netlink: Netlink,
    probes: Probes,
    echoes: Echoes,
    cgroup: Option<String>,
    /// Shared by single parts, held alone by whole plans.
    kernel: RwLock<Kernel>,
}

impl NodeKernel {
    /// The kernel as the given namespace shows it, with BPF programs and maps pinned in `pins`, a
    /// folder of this node's own. Services are translated for sockets of the control group `cgroup` and
    /// those below, if one is given.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(netns: NetNs, pins: PathBuf, cgroup: Option<String>) -> Result<NodeKernel, Error> {
        Ok(NodeKernel {
            netlink: Netlink::open(&netns)?,
            probes: Probes::open(&netns)?,
            echoes: Echoes::open(&netns)?,
            cgroup,
            kernel: RwLock::new(Kernel::open(netns, pins)?),
        })
    }

    /// The connection to it.
    pub fn netlink(&self) -> Netlink {
        self.netlink.clone()
    }
}

impl DataPlane for NodeKernel {
    async fn facts(&self, node: &str, addresses: &[IpAddr]) -> Result<NodeFacts, Error> {
        let facts = kernel::facts::facts(&self.netlink, node, addresses).await?;
        Ok(NodeFacts {
            cgroup: self.cgroup.clone(),
            ..facts
        })
    }

    async fn path_mtus(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, u32>, Error> {
        kernel::facts::path_mtus(&self.netlink, addresses).await
    }

    fn probe_paths(&self, addresses: &BTreeSet<IpAddr>, port: u16, mtu: u32) {
        self.probes.send(addresses, port, mtu);
    }

    fn answers(&self) -> BTreeSet<IpAddr> {
        self.echoes.answers()
    }

    fn ask(&self, addresses: &BTreeSet<IpAddr>) {
        addresses.iter().for_each(|address| self.echoes.ask(*address));
    }

    async fn pod_links(&self) -> Result<BTreeSet<String>, Error> {
        let links = self.netlink.links().await?.into_iter();
        Ok(links
            .filter(|link| link.kind == "veth" && link.name.starts_with(LINK_PREFIX))
            .map(|link| link.name)
            .collect())
    }

    async fn apply(&self, plan: &NodePlan) -> Result<Applied, Error> {
        self.kernel.write().await.apply(plan).await
    }

    async fn apply_services(&self, services: &Services) -> Result<Applied, Error> {
        let kernel = self.kernel.read().await;
        match services {
            Services::All(parts) => kernel.apply_all_services(&parts.iter().collect()).await,
            Services::Some(parts) => {
                let changes = parts.iter().map(|(name, part)| (name, part.as_ref()));
                kernel.apply_services(&changes.collect()).await
            }
        }
    }

    async fn count_translated(&self) -> Result<usize, Error> {
        self.kernel.read().await.count_translated()
    }

    async fn forget_unanswered(&self) -> Result<usize, Error> {
        self.kernel.read().await.forget_unanswered()
    }

    async fn set_untranslated(&self, links: &BTreeSet<String>) -> Result<usize, Error> {
        self.kernel.read().await.set_untranslated(links)
    }

    async fn apply_policies(&self, tables: &PolicyTables) -> Result<usize, Error> {
        self.kernel.read().await.apply_policies(tables)
    }

    async fn change_policies(&self, change: &PolicyChange) -> Result<usize, Error> {
        self.kernel.read().await.change_policies(change)
    }

    async fn policies(&self) -> Result<Option<PolicyTables>, Error> {
        self.kernel.read().await.policies()
    }

    async fn policy_events(&self) -> Result<Option<PolicyEvents>, Error> {
        self.kernel.read().await.policy_events()
    }

    async fn follow_flows(&self, on: bool) -> Result<(), Error> {
        self.kernel.read().await.follow_flows(on)
    }

    async fn policy_counts(&self) -> Result<PolicyCounts, Error> {
        self.kernel.read().await.policy_counts()
    }

    async fn apply_part(&self, id: &PartId, part: &Part) -> Result<usize, Error> {
        self.kernel.read().await.apply_part(id, part).await
    }

    async fn remove_part(&self, id: &PartId, part: &Part) -> Result<usize, Error> {
        self.kernel.read().await.remove_part(id, part).await
    }

    async fn missing(&self, part: &Part) -> Result<Vec<String>, Error> {
        let node = View::read(&self.netlink).await?;
        let mut missing = Vec::new();
        let mut mappings = Vec::new();
        for object in &part.objects {
            match object {
                Object::Veth(veth) => {
                    node.link(&veth.name, veth.mac, veth.mtu, &mut missing);
                    node.shaper(&self.netlink, &veth.name, veth.shaper.as_ref(), &mut missing)
                        .await?;
                    missing_in_pod(veth, &mut missing).await?;
                }
                Object::Neighbour(neighbour) => node.neighbour(neighbour, &mut missing),
                Object::Route(route) => node.route(route, &mut missing),
                // Our programs and what they know: asked for below, all at once.
                Object::Endpoint(_) | Object::LoopbackPort(_) => {}
                // Parts of the whole node's, not of a pod's.
                Object::Sysctl(_)
                | Object::Table(_)
                | Object::Element(_)
                | Object::Tunnel(_)
                | Object::Address(_)
                | Object::Fdb(_)
                | Object::Wire(_)
                | Object::Sockets(_)
                | Object::NodeAddress(_)
                | Object::Forward(_)
                | Object::Service(_)
                | Object::ServiceAddress(_) => {}
                Object::Mapping(mapping) => mappings.push(mapping),
            }
        }
        let kernel = self.kernel.read().await;
        for mapping in mappings {
            note(kernel.holds_mapping(mapping)?, &mut missing, mapping);
        }
        missing.extend(kernel.missing_programs(part).await?);
        Ok(missing)
    }
}

async fn missing_in_pod(veth: &Veth, missing: &mut Vec<String>) -> Result<(), Error> {
    let pod = &veth.pod;
    let mut found = Vec::new();
    let netlink = Netlink::open(&NetNs::open(&pod.netns)?)?;
    let view = View::read(&netlink).await?;
    view.link(&pod.name, pod.mac, veth.mtu, &mut found);
    view.shaper(&netlink, &pod.name, pod.shaper.as_ref(), &mut found)
        .await?;
    let index = view.index(&pod.name);
    for address in &pod.addresses {
        let is_there = view
            .addresses
            .iter()
            .any(|held| Some(held.link) == index && held.address == *address);
        note(
            is_there,
            &mut found,
            format_args!("address {address} on {}", pod.name),
        );
    }
    pod.neighbours
        .iter()
        .for_each(|neighbour| view.neighbour(neighbour, &mut found));
    pod.routes.iter().for_each(|route| view.route(route, &mut found));
    missing.extend(found.into_iter().map(|text| format!("{text}, in the pod")));
    Ok(())
}

/// What one namespace holds.
struct View {
    links: Vec<Link>,
    addresses: Vec<kernel::addr::Address>,
    neighbours: Vec<kernel::neigh::Neighbour>,
    routes: Vec<kernel::route::Route>,
}

impl View {
    async fn read(netlink: &Netlink) -> Result<View, Error> {
        Ok(View {
            links: netlink.links().await?,
            addresses: netlink.addresses().await?,
            neighbours: netlink.neighbours().await?,
            routes: netlink.own_routes().await?,
        })
    }

    fn index(&self, name: &str) -> Option<u32> {
        self.links
            .iter()
            .find(|link| link.name == name)
            .map(|link| link.index)
    }

    fn link(&self, name: &str, mac: model::MacAddr, mtu: u32, missing: &mut Vec<String>) {
        let Some(link) = self.links.iter().find(|link| link.name == name) else {
            missing.push(format!("no link {name}"));
            return;
        };
        note(link.up, missing, format_args!("link {name} that is up"));
        note(
            link.address == Some(mac),
            missing,
            format_args!("link {name} with the Ethernet address {mac}"),
        );
        note(
            link.mtu == mtu,
            missing,
            format_args!("link {name} with MTU {mtu}"),
        );
    }

    async fn shaper(
        &self,
        netlink: &Netlink,
        link: &str,
        wanted: Option<&Shaper>,
        missing: &mut Vec<String>,
    ) -> Result<(), Error> {
        // Of a link that isn't there that is said already.
        if let (Some(shaper), Some(found)) = (wanted, self.links.iter().find(|found| found.name == link)) {
            let held = netlink.holds_shaper(found, wanted).await?;
            note(held, missing, format_args!("queue {shaper} on {link}"));
        }
        Ok(())
    }

    fn neighbour(&self, wanted: &Neighbour, missing: &mut Vec<String>) {
        let index = self.index(&wanted.link);
        let same = |held: &kernel::neigh::Neighbour| {
            Some(held.link) == index && held.address == wanted.address && held.mac == wanted.mac
        };
        note(self.neighbours.iter().any(same), missing, wanted);
    }

    fn route(&self, wanted: &Route, missing: &mut Vec<String>) {
        let (gateway, link) = match &wanted.to {
            NextHop::Link(link) => (None, Some(link)),
            NextHop::Via { gateway, link } | NextHop::OnLink { gateway, link } => {
                (Some(*gateway), Some(link))
            }
            NextHop::Unreachable => (None, None),
        };
        let index = link.and_then(|link| self.index(link));
        let same = |held: &kernel::route::Route| {
            held.destination == wanted.destination
                && held.gateway == gateway
                && (link.is_none() || held.link == index)
        };
        note(self.routes.iter().any(same), missing, wanted);
    }
}

fn note(is_there: bool, missing: &mut Vec<String>, what: impl Display) {
    if !is_there {
        missing.push(format!("no {what}"));
    }
}
