//! Plans into the kernel.
//!
//! The first [`Kernel::apply`] reads what is there and writes the difference. Later ones compare
//! with the last plan instead, so that their cost follows the change, not the cluster. Every write
//! is idempotent, and a part whose writes failed is written whole the next time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpf_abi::Counter;
use nft::{Chain, Entry, Place, Set};
use plan::{Change, Identity, NodePlan, Object, Part, PartId, Tunnel, Veth};

use crate::bpf::services::Services;
use crate::bpf::{self, Bpf, Hooks};
use crate::conntrack::Conntrack;
use crate::namespaces::Pods;
use crate::nftables::Nft;
use crate::observe::Observed;
use crate::service;
use crate::translate::Indexes;
use crate::{NetNs, Netlink, Result, attach, sysctl, tunnel};

/// The kernel of one node: its network namespace.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) netns: NetNs,
    pub(crate) netlink: Netlink,
    pub(crate) nft: Nft,
    pub(crate) conntrack: Conntrack,
    pub(crate) bpf: bpf::Lazy,
    /// What was written of Services, once that is known. Never locked over a wait.
    pub(crate) services: Mutex<Option<service::Services>>,
    pub(crate) pods: Mutex<Pods>,
    /// What was written, once everything was. Never locked over a wait.
    held: Mutex<Option<NodePlan>>,
}

/// What an apply did.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many things were written or removed.
    pub writes: usize,
    /// Parts of which something could not be written, and why; they're tried again by the next apply.
    pub failures: Vec<(PartId, crate::Error)>,
    /// Something that should be gone isn't.
    leftover: bool,
}

impl Applied {
    fn note_removal(&mut self, part: &PartId, result: Result<bool>) {
        self.leftover |= result.is_err();
        self.note(part, result.map(usize::from));
    }

    fn note(&mut self, part: &PartId, result: Result<usize>) {
        match result {
            Ok(writes) => self.writes += writes,
            Err(error) => self.failures.push((part.clone(), error)),
        }
    }
}

impl Kernel {
    /// The kernel as the given namespace shows it, with BPF programs and maps pinned in `pins`, a
    /// folder of this node's own.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(netns: NetNs, pins: PathBuf) -> Result<Kernel> {
        Kernel::with_hooks(netns, pins, Hooks::probe())
    }

    /// [`Kernel::open`] for programs that hang on links where the caller says.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn with_hooks(netns: NetNs, pins: PathBuf, hooks: Hooks) -> Result<Kernel> {
        let (netlink, nft) = (Netlink::open(&netns)?, Nft::open(&netns)?);
        let conntrack = Conntrack::open(&netns)?;
        Ok(Kernel {
            netns,
            netlink,
            nft,
            conntrack,
            bpf: bpf::Lazy::new(pins, hooks),
            services: Mutex::default(),
            pods: Mutex::default(),
            held: Mutex::default(),
        })
    }

    /// Makes the kernel hold what the plan says. One part's failure doesn't stop the others; without
    /// our programs nothing is written at all.
    pub async fn apply(&mut self, plan: &NodePlan) -> Result<Applied> {
        self.bpf.get()?;
        let held = self.held().take();
        let applied = match held {
            Some(held) if !tunnel::any_is_remade(&held, plan) => self.apply_changes(&held, plan).await?,
            _ => self.apply_all(plan).await?,
        };
        let mut held = plan.clone();
        for (part, _) in &applied.failures {
            held.parts.remove(part);
        }
        // Without a base that is known to be right only a dump tells what's in our table.
        let known = !applied.leftover && held.parts.contains_key(&PartId::Base);
        *self.held() = known.then_some(held);
        Ok(applied)
    }

    /// Forgets what was written: the next apply reads the kernel and repairs what others changed.
    pub fn forget(&mut self) {
        *self.held() = None;
        *self.services.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Writes one part: what ADD does. If it fails, nothing that it made is left. Different parts
    /// may be written and removed side by side.
    pub async fn apply_part(&self, id: &PartId, part: &Part) -> Result<usize> {
        self.forget_part(id);
        let bpf = self.bpf.get()?;
        let mut indexes = Indexes::new(&self.netlink);
        let mut writes = 0;
        let (mut born, mut observed) = (Vec::new(), None);
        for object in &part.objects {
            let result = self
                .put_missing(&bpf, object, &mut indexes, &mut born, &mut observed)
                .await;
            match result {
                Ok(count) => writes += count,
                Err(error) => {
                    for object in part.objects.iter().filter(|_| !born.is_empty()) {
                        if let Object::Endpoint(endpoint) = object {
                            let _ = bpf.remove_endpoint(endpoint);
                        }
                    }
                    for link in born {
                        let _ = self.netlink.delete_link(&link).await;
                    }
                    return Err(error);
                }
            }
        }
        if let Some(held) = self.held().as_mut() {
            held.parts.insert(id.clone(), part.clone());
        }
        Ok(writes)
    }

    /// What a part lacks of our programs and of what they know, for people.
    pub async fn missing_programs(&self, part: &Part) -> Result<Vec<String>> {
        let bpf = self.bpf.get()?;
        let links = self.netlink.links().await?;
        let names = links
            .iter()
            .map(|link| (link.index, link.name.as_str()))
            .collect();
        let own = self.netns.cookie().ok();
        let held = bpf.objects(&names, own)?;
        let index = |name: &str| links.iter().find(|link| link.name == name).map(|link| link.index);
        let mut missing = Vec::new();
        for object in &part.objects {
            match object {
                Object::Endpoint(_) if !held.contains(object) => missing.push(format!("no {object}")),
                Object::LoopbackPort(_) if own.is_some() && !held.contains(object) => {
                    missing.push(format!("no {object}"));
                }
                Object::Veth(veth) => {
                    let Some(index) = index(&veth.name) else { continue };
                    if !self
                        .netns
                        .run(|| bpf.programs().are_on(index, bpf::Role::Pod))??
                    {
                        missing.push(format!(
                            "no programs of ours, or others beside them, on link {}",
                            veth.name
                        ));
                    }
                }
                _ => {}
            }
        }
        Ok(missing)
    }

    /// Takes our programs off all links, and leaves everything else as it is: what traffic without them
    /// is compared with.
    pub async fn bare(&mut self) -> Result<usize> {
        self.forget();
        let links = self.netlink.links().await?;
        let hooks = self.bpf.hooks();
        self.netns.run(|| {
            let removed = links.iter().map(|link| hooks.clear(link.index).map(usize::from));
            removed.sum()
        })?
    }

    /// Forgets what our programs have learned of conversations, as the kernel does when there are too
    /// many: each passes the network stack until it's learned again. Says how many there were.
    pub fn forget_flows(&self) -> Result<usize> {
        self.bpf.get()?.forget_flows()
    }

    /// What our programs know of Services.
    pub fn services(&self) -> Result<Arc<Services>> {
        Ok(self.bpf.get()?.services().clone())
    }

    /// What our programs have counted since they were first loaded here.
    pub fn counts(&self) -> Result<Vec<(Counter, u64)>> {
        let bpf = self.bpf.get()?;
        let counts = Counter::ALL.map(|counter| bpf.count(counter).map(|count| (counter, count)));
        counts.into_iter().collect()
    }

    /// Removes one part: what DEL does. What is gone already, the pod's namespace with everything
    /// in it for one, doesn't matter.
    pub async fn remove_part(&self, id: &PartId, part: &Part) -> Result<usize> {
        self.forget_part(id);
        let mut indexes = Indexes::new(&self.netlink);
        let mappings = part.objects.iter().rev().filter_map(|object| match object {
            Object::Mapping(mapping) => Some(mapping),
            _ => None,
        });
        // First, as in the order of the others, and all at once.
        let mut writes = self.remove_mappings(&mappings.collect::<Vec<_>>())?;
        let others = |object: &&Object| !matches!(object, Object::Mapping(_));
        for object in part.objects.iter().rev().filter(others) {
            writes += usize::from(self.remove(object, &mut indexes).await?);
        }
        Ok(writes)
    }

    /// Writes an object of a part unless it's there. With a new link nothing is, so nothing is read.
    async fn put_missing(
        &self,
        bpf: &Bpf,
        object: &Object,
        indexes: &mut Indexes<'_>,
        born: &mut Vec<String>,
        observed: &mut Option<Observed>,
    ) -> Result<usize> {
        if let (Object::Mapping(mapping), true) = (object, born.is_empty())
            && self.holds_mapping(mapping)?
        {
            return Ok(0);
        }
        let readable = matches!(
            object,
            Object::Endpoint(_) | Object::Neighbour(_) | Object::Route(_) | Object::LoopbackPort(_)
        );
        if readable && born.is_empty() {
            if observed.is_none() {
                *observed = Some(Observed::read(&self.netlink, &self.netns, bpf).await?);
            }
            if observed.as_ref().is_some_and(|observed| observed.holds(object)) {
                return Ok(0);
            }
        }
        self.put(object, indexes, born).await
    }

    fn forget_part(&self, id: &PartId) {
        if let Some(held) = self.held().as_mut() {
            held.parts.remove(id);
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<NodePlan>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn apply_all(&self, plan: &NodePlan) -> Result<Applied> {
        let mut applied = Applied::default();
        // First: what was on such a link goes with it.
        applied.note_removal(&PartId::Base, tunnel::remove_unfit(self, plan).await);
        let bpf = self.bpf.get()?;
        let observed = Observed::read(&self.netlink, &self.netns, &bpf).await?;
        let mut indexes = Indexes::known(&self.netlink, &observed.links);
        for (id, part) in &plan.parts {
            if part
                .objects
                .iter()
                .any(|object| matches!(object, Object::Table(_)))
            {
                applied.note(id, self.whole_table(plan).await);
            }
            applied.note(id, self.complete(part, &observed, &mut indexes).await);
        }
        self.remove_surplus(plan, &observed, &mut applied, &mut indexes)
            .await;
        let known = self.know_node(&plan.addresses);
        applied.note(&PartId::Base, known.map(|()| 0));
        if applied.failures.is_empty() {
            // Every link has this version's programs now.
            bpf.retire_others()?;
        }
        Ok(applied)
    }

    /// Writes what a part lacks.
    async fn complete(&self, part: &Part, observed: &Observed, indexes: &mut Indexes<'_>) -> Result<usize> {
        let mut writes = 0;
        for object in &part.objects {
            match object {
                // Written before all parts, whole.
                Object::Table(_) | Object::Element(_) | Object::Mapping(_) => {}
                object if observed.holds(object) => {}
                object => writes += self.put(object, indexes, &mut Vec::new()).await?,
            }
        }
        Ok(writes)
    }

    /// Removes what is ours and in no part: routes, then neighbours and tunnels' entries, then links.
    async fn remove_surplus(
        &self,
        plan: &NodePlan,
        observed: &Observed,
        applied: &mut Applied,
        indexes: &mut Indexes<'_>,
    ) {
        let wanted: BTreeMap<Identity, &Object> =
            plan.objects().map(|object| (object.identity(), object)).collect();
        let surplus = |object: &Object| match wanted.get(&object.identity()) {
            // Links that have some of our programs are among the wires.
            None => !matches!(object, Object::Wire(_)),
            // A tunnel may have several entries for an address, and sends to all of them.
            Some(wanted) => matches!(object, Object::Fdb(_)) && *wanted != object,
        };
        for object in observed.objects.iter().rev().filter(|object| surplus(object)) {
            applied.note_removal(&PartId::Base, self.remove(object, indexes).await);
        }
        for (link, index) in &observed.wires {
            if !wanted.contains_key(&Identity::Wire(link.clone())) {
                applied.note_removal(&PartId::Base, self.unwire(*index));
            }
        }
        for link in &observed.own_links {
            if !wanted.contains_key(&Identity::Link(link.clone())) {
                applied.note_removal(&PartId::Base, self.netlink.delete_link(link).await);
            }
        }
    }

    async fn apply_changes(&self, held: &NodePlan, plan: &NodePlan) -> Result<Applied> {
        let mut applied = Applied::default();
        let mut indexes = Indexes::new(&self.netlink);
        let changes = NodePlan::diff(held, plan);
        // Chains that see to what comes by a link go after the link.
        let chains_go = chains(held).any(|chain| !chains(plan).any(|kept| kept.name == chain.name));
        if !chains_go {
            self.change_table(&changes, plan, &mut applied).await;
        }
        let mut failed: BTreeSet<PartId> = BTreeSet::new();
        for change in &changes {
            match change {
                change if matches!(change.object(), Object::Table(_) | Object::Element(_)) => {}
                // A link that failed makes its routes fail too: one failure a part is enough.
                Change::Put { part, .. } if failed.contains(part) => {}
                Change::Put { part, object } => {
                    let result = self.put(object, &mut indexes, &mut Vec::new()).await;
                    if result.is_err() {
                        failed.insert(part.clone());
                    }
                    applied.note(part, result);
                }
                Change::Remove { part, object } => {
                    applied.note_removal(part, self.remove(object, &mut indexes).await);
                }
            }
        }
        if chains_go {
            self.change_table(&changes, plan, &mut applied).await;
        }
        Ok(applied)
    }

    /// Makes all changes of our table in one batch.
    async fn change_table(&self, changes: &[Change], plan: &NodePlan, applied: &mut Applied) {
        if changes
            .iter()
            .any(|change| matches!(change.object(), Object::Table(_)))
        {
            return applied.note(&PartId::Base, self.whole_table(plan).await);
        }
        let elements = |put: bool| {
            let wanted = changes
                .iter()
                .filter(move |change| matches!(change, Change::Put { .. }) == put);
            wanted.filter_map(|change| match change.object() {
                Object::Element(element) => Some((element.set.as_str(), element.key.clone().into())),
                _ => None,
            })
        };
        let (removed, added) = (by_set(elements(false)), by_set(elements(true)));
        let table = plan::table();
        let set = |name: &str| table.sets.iter().find(|set| set.name == name).cloned();
        let steps = |map: BTreeMap<String, Vec<Entry>>, step: fn(Set, Vec<Entry>) -> nft::Change| {
            map.into_iter()
                .filter_map(move |(name, entries)| Some(step(set(&name)?, entries)))
                .collect::<Vec<_>>()
        };
        // Removals first: a new block may cover what an old one did. It's one batch, so nobody sees
        // the moment between.
        let mut batch = steps(removed, nft::Change::DeleteElements);
        batch.extend(steps(added, nft::Change::AddElements));
        let place = Place::new(table.family, &table.name);
        applied.note(
            &PartId::Base,
            self.nft.change(&place, &batch).map(|()| batch.len()),
        );
    }

    async fn whole_table(&self, plan: &NodePlan) -> Result<usize> {
        let mut writes = 0;
        for object in plan.objects() {
            if let Object::Table(table) = object {
                let services = [true, false].map(plan::backends_map);
                let elements = plan::elements(plan.objects());
                let changes = self.nft.apply_but(table, &elements, &services)?;
                self.forget_after(&changes).await?;
                writes += changes.len();
                if changes.contains(&nft::Change::AddTable) {
                    writes += self.translate_again().await?;
                }
            }
        }
        Ok(writes)
    }

    /// Writes an object, over whatever is there. Names of links that it made go to `born`.
    async fn put(&self, object: &Object, indexes: &mut Indexes<'_>, born: &mut Vec<String>) -> Result<usize> {
        match object {
            Object::Sysctl(one) => sysctl::ensure_in(&self.netns, std::slice::from_ref(one)),
            // Its elements come from all parts: `apply` writes it whole.
            Object::Table(_) => Ok(0),
            Object::Element(element) => {
                self.change_element(&element.set, element.key.clone().into(), nft::Change::AddElements)
            }
            Object::Mapping(mapping) => self.put_mapping(mapping).await,
            Object::LoopbackPort(port) => self.put_loopback(port),
            // All Services' step by step: one's alone would be written in the wrong order.
            Object::Service(_) | Object::ServiceAddress(_) => Ok(0),
            Object::Tunnel(tunnel) => tunnel::ensure(self, tunnel, indexes).await,
            Object::Veth(veth) => {
                let writes = attach::ensure(self, veth, indexes, born).await?;
                self.know_pod(veth)?;
                Ok(writes)
            }
            Object::Address(address) => self.netlink.add_own_address(*address).await.map(usize::from),
            Object::Fdb(fdb) => {
                let fdb = indexes.fdb(fdb).await?;
                self.netlink.replace_fdb(&fdb).await.map(|()| 1)
            }
            Object::Wire(link) => {
                let (index, bpf) = (indexes.get(link).await?, self.bpf.get()?);
                self.netns.run(|| bpf.programs().ensure(index, bpf::Role::Wire))?
            }
            Object::Sockets(group) => self.bpf.get()?.programs().ensure_sockets(group),
            Object::NodeAddress(node) => self.bpf.get()?.put_node(*node).map(|()| 1),
            Object::Endpoint(endpoint) => {
                let index = indexes.get(&endpoint.link).await?;
                self.bpf.get()?.put_endpoint(endpoint, index).map(|()| 1)
            }
            Object::Forward(forward) => {
                let index = indexes.get(&forward.link).await?;
                self.bpf.get()?.put_forward(forward, index).map(|()| 1)
            }
            Object::Neighbour(neighbour) => {
                let neighbour = indexes.neighbour(neighbour).await?;
                self.netlink.replace_neighbour(&neighbour).await.map(|()| 1)
            }
            Object::Route(route) => {
                let route = indexes.route(route).await?;
                self.netlink.replace_route(&route).await.map(|()| 1)
            }
        }
    }

    /// Removes exactly this object; false if it wasn't there.
    async fn remove(&self, object: &Object, indexes: &mut Indexes<'_>) -> Result<bool> {
        let result = match object {
            // What the node's sysctls were before isn't ours to know.
            Object::Sysctl(_) => Ok(false),
            Object::Table(table) => self.nft.delete_table(&Place::new(table.family, &table.name)),
            Object::Element(element) => self
                .change_element(
                    &element.set,
                    element.key.clone().into(),
                    nft::Change::DeleteElements,
                )
                .map(|count| count > 0),
            Object::Mapping(mapping) => self.remove_mappings(&[mapping]).map(|count| count > 0),
            Object::LoopbackPort(port) => self.remove_loopback(port),
            Object::Service(_) | Object::ServiceAddress(_) => Ok(false),
            Object::Veth(Veth { name, .. }) | Object::Tunnel(Tunnel { name, .. }) => {
                indexes.forget(name);
                self.forget_pod(name)?;
                self.netlink.delete_link(name).await
            }
            Object::Address(address) => self.netlink.delete_own_address(*address).await,
            Object::Fdb(fdb) => match indexes.fdb(fdb).await {
                Ok(fdb) => self.netlink.delete_fdb(&fdb).await,
                Err(error) => Err(error),
            },
            Object::Wire(link) => match indexes.get(link).await {
                Ok(index) => self.unwire(index),
                Err(error) => Err(error),
            },
            Object::Sockets(group) => bpf::clear_sockets(group),
            // What could never be loaded holds nothing.
            Object::NodeAddress(node) => self
                .bpf
                .get()
                .map_or(Ok(false), |bpf| bpf.remove_node(node.address)),
            Object::Endpoint(endpoint) => self
                .bpf
                .get()
                .map_or(Ok(false), |bpf| bpf.remove_endpoint(endpoint)),
            Object::Forward(forward) => self
                .bpf
                .get()
                .map_or(Ok(false), |bpf| bpf.remove_forward(forward.destination)),
            Object::Neighbour(neighbour) => match indexes.neighbour(neighbour).await {
                Ok(neighbour) => self.netlink.delete_neighbour(&neighbour).await,
                Err(error) => Err(error),
            },
            Object::Route(route) => match indexes.route(route).await {
                Ok(route) => self.netlink.delete_route(&route).await,
                Err(error) => Err(error),
            },
        };
        match result {
            Err(error) if error.is_not_found() => Ok(false),
            result => result,
        }
    }

    /// Takes our programs off a link.
    fn unwire(&self, index: u32) -> Result<bool> {
        self.netns.run(|| self.bpf.hooks().clear(index))?
    }

    fn change_element(
        &self,
        set: &str,
        entry: Entry,
        change: fn(Set, Vec<Entry>) -> nft::Change,
    ) -> Result<usize> {
        let table = plan::table();
        let Some(set) = table.sets.iter().find(|known| known.name == set) else {
            return Ok(0);
        };
        let change = change(set.clone(), vec![entry]);
        self.nft
            .change(&Place::new(table.family, &table.name), &[change])
            .map(|()| 1)
    }
}

fn chains(plan: &NodePlan) -> impl Iterator<Item = &Chain> {
    let tables = plan.objects().filter_map(|object| match object {
        Object::Table(table) => Some(&table.chains),
        _ => None,
    });
    tables.flatten()
}

fn by_set<'a>(elements: impl Iterator<Item = (&'a str, Entry)>) -> BTreeMap<String, Vec<Entry>> {
    let mut sets: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for (set, entry) in elements {
        sets.entry(set.to_owned()).or_default().push(entry);
    }
    sets
}
