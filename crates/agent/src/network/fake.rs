//! A kernel that is played, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use ipnet::IpNet;
use kernel::Applied;
use kernel::{PolicyCounts, PolicyEvents};
use model::{NodeFacts, ServiceName, Uplink};
use plan::{Identity, NodePlan, Object, Part, PartId, PolicyChange, PolicyTables, Veth};
use tokio::sync::Semaphore;

use super::{DataPlane, Services};

/// A kernel that holds what it is told to.
#[derive(Debug, Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Played>>);

#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) objects: BTreeMap<Identity, Object>,
    /// How many calls that write are refused from now on.
    pub(super) refuse: usize,
    /// What the writing of a part waits for.
    pub(super) gate: Option<Arc<Semaphore>>,
    /// The part that the next plan fails to write.
    pub(super) refuse_part: Option<PartId>,
    /// What is known of paths.
    pub(super) path_mtus: BTreeMap<IpAddr, u32>,
    /// Which were asked about, each time.
    pub(super) probed: Vec<BTreeSet<IpAddr>>,
    /// Who answers, and who was asked last.
    pub(super) answering: BTreeSet<IpAddr>,
    pub(super) asked: BTreeSet<IpAddr>,
    /// The Services that were written, each time.
    pub(super) services: Vec<String>,
    /// The links of pods whose sockets see Services' addresses.
    pub(super) untranslated: BTreeSet<String>,
    /// The policies' tables.
    pub(super) policies: PolicyTables,
    /// What they have done.
    pub(super) counts: PolicyCounts,
    /// What was written, in its order.
    pub(super) order: Vec<&'static str>,
}

impl Fake {
    pub(super) fn played(&self) -> MutexGuard<'_, Played> {
        self.0.lock().expect("no test panics with it")
    }

    fn attempt(&self) -> Result<MutexGuard<'_, Played>, kernel::Error> {
        let mut played = self.played();
        if played.refuse > 0 {
            played.refuse -= 1;
            return Err(kernel::Error::NoLink("refused".to_owned()));
        }
        Ok(played)
    }

    pub(super) fn links(&self) -> BTreeSet<String> {
        let played = self.played();
        let links = played.objects.keys().filter_map(|identity| match identity {
            Identity::Link(name) => Some(name.clone()),
            _ => None,
        });
        links.collect()
    }

    /// As when a pod's namespace goes: its link, and what was on it.
    pub(super) fn lose_link(&self, name: &str) {
        self.played().objects.retain(|identity, object| {
            let by_link = matches!(object, Object::Route(plan::Route { to: plan::NextHop::Link(link), .. }) if link == name);
            let on_link = matches!(identity, Identity::Link(link) | Identity::Neighbour(link, _) if link == name);
            !by_link && !on_link
        });
    }
}

impl DataPlane for Fake {
    async fn facts(&self, node: &str, addresses: &[IpAddr]) -> Result<NodeFacts, kernel::Error> {
        let addresses = addresses
            .iter()
            .map(|address| IpNet::new(*address, 24).expect("24 bits"))
            .collect();
        Ok(NodeFacts {
            name: node.to_owned(),
            uplink: Uplink {
                name: "eth0".to_owned(),
                mtu: 1500,
                addresses,
            },
            ..NodeFacts::default()
        })
    }

    async fn path_mtus(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, u32>, kernel::Error> {
        let known = self.played().path_mtus.clone().into_iter();
        Ok(known.filter(|(address, _)| addresses.contains(address)).collect())
    }

    fn probe_paths(&self, addresses: &BTreeSet<IpAddr>, _: u16, _: u32) {
        self.played().probed.push(addresses.clone());
    }

    fn answers(&self) -> BTreeSet<IpAddr> {
        let played = self.played();
        played.asked.intersection(&played.answering).copied().collect()
    }

    fn ask(&self, addresses: &BTreeSet<IpAddr>) {
        self.played().asked.clone_from(addresses);
    }

    async fn pod_links(&self) -> Result<BTreeSet<String>, kernel::Error> {
        Ok(self.links())
    }

    async fn apply(&self, plan: &NodePlan) -> Result<Applied, kernel::Error> {
        let mut played = self.attempt()?;
        played.order.push("plan");
        let wanted: BTreeMap<Identity, Object> = plan
            .objects()
            .map(|object| (object.identity(), object.clone()))
            .collect();
        let services = played.objects.extract_if(.., |identity, _| {
            matches!(identity, Identity::Service(_) | Identity::ServiceAddress(..))
        });
        let services: Vec<(Identity, Object)> = services.collect();
        let stale = played
            .objects
            .keys()
            .filter(|identity| !wanted.contains_key(identity))
            .count();
        let new = wanted
            .iter()
            .filter(|(identity, object)| played.objects.get(identity) != Some(object))
            .count();
        played.objects = wanted;
        played.objects.extend(services);
        let mut applied = Applied::default();
        applied.writes = stale + new;
        applied.failures.extend(
            played
                .refuse_part
                .take()
                .map(|part| (part, kernel::Error::NoLink("refused".to_owned()))),
        );
        Ok(applied)
    }

    async fn count_translated(&self) -> Result<usize, kernel::Error> {
        Ok(0)
    }

    async fn forget_unanswered(&self) -> Result<usize, kernel::Error> {
        Ok(0)
    }

    async fn apply_services(&self, services: &Services) -> Result<Applied, kernel::Error> {
        let mut played = self.attempt()?;
        let of_service = |identity: &Identity, name: Option<&ServiceName>| match identity {
            Identity::Service(id) => name.is_none_or(|name| id.service == *name),
            Identity::ServiceAddress(service, _) => name.is_none_or(|name| service == name),
            _ => false,
        };
        let parts: Vec<(&ServiceName, Option<&Part>)> = match services {
            Services::All(parts) => {
                played.objects.retain(|identity, _| !of_service(identity, None));
                parts.iter().map(|(name, part)| (name, Some(part))).collect()
            }
            Services::Some(parts) => parts.iter().map(|(name, part)| (name, part.as_ref())).collect(),
        };
        let mut applied = Applied::default();
        for (name, part) in parts {
            applied.writes += 1;
            played.services.push(name.to_string());
            played
                .objects
                .retain(|identity, _| !of_service(identity, Some(name)));
            for object in part.into_iter().flat_map(|part| &part.objects) {
                played.objects.insert(object.identity(), object.clone());
            }
        }
        Ok(applied)
    }

    async fn set_untranslated(&self, links: &BTreeSet<String>) -> Result<usize, kernel::Error> {
        let mut played = self.attempt()?;
        let writes = played.untranslated.symmetric_difference(links).count();
        played.untranslated.clone_from(links);
        Ok(writes)
    }

    async fn apply_policies(&self, tables: &PolicyTables) -> Result<usize, kernel::Error> {
        let mut played = self.attempt()?;
        let change = PolicyTables::diff(&played.policies, tables);
        played.policies.apply(&change);
        played.order.push("policies");
        Ok(change.len())
    }

    async fn change_policies(&self, change: &PolicyChange) -> Result<usize, kernel::Error> {
        let mut played = self.attempt()?;
        played.policies.apply(change);
        played.order.push("policies");
        Ok(change.len())
    }

    async fn policies(&self) -> Result<Option<PolicyTables>, kernel::Error> {
        Ok(Some(self.played().policies.clone()))
    }

    async fn policy_events(&self) -> Result<Option<PolicyEvents>, kernel::Error> {
        Ok(None)
    }

    async fn follow_flows(&self, _: bool) -> Result<(), kernel::Error> {
        Ok(())
    }

    async fn policy_counts(&self) -> Result<PolicyCounts, kernel::Error> {
        Ok(self.played().counts.clone())
    }

    async fn apply_part(&self, _: &PartId, part: &Part) -> Result<usize, kernel::Error> {
        let gate = self.played().gate.clone();
        if let Some(gate) = gate {
            gate.acquire().await.expect("open").forget();
        }
        let mut played = self.attempt()?;
        played.order.push("link");
        let put = |object: &Object| {
            played.objects.insert(object.identity(), object.clone()).as_ref() != Some(object)
        };
        Ok(part.objects.iter().map(put).filter(|written| *written).count())
    }

    async fn remove_part(&self, _: &PartId, part: &Part) -> Result<usize, kernel::Error> {
        let mut played = self.attempt()?;
        played.order.push("no link");
        let mut remove = |object: &Object| played.objects.remove(&object.identity()).is_some();
        Ok(part.objects.iter().filter(|object| remove(object)).count())
    }

    async fn missing(&self, part: &Part) -> Result<Vec<String>, kernel::Error> {
        let played = self.played();
        let missing = part.objects.iter().filter(|object| {
            let held = played.objects.get(&object.identity());
            !held.is_some_and(|held| covers(held, object))
        });
        Ok(missing.map(|object| format!("no {object}")).collect())
    }
}

/// Whether what is held is all that is wanted; a pod may have more routes.
fn covers(held: &Object, wanted: &Object) -> bool {
    let (Object::Veth(held), Object::Veth(wanted)) = (held, wanted) else {
        return held == wanted;
    };
    let bare = |veth: &Veth| {
        let mut veth = veth.clone();
        veth.pod.routes.clear();
        veth
    };
    let mut routes = wanted.pod.routes.iter();
    routes.all(|route| held.pod.routes.contains(route)) && bare(held) == bare(wanted)
}
