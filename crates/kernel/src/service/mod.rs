//! Services into the kernel: from the plan's objects to entries of our programs' maps and elements
//! of our table's.
//!
//! ```text
//!   objects of the Services that changed
//!     ─► backends, translations ─► slots, sources, frontends      everything new
//!     ─► frontends, slots, sources ─► translations, backends      everything old
//! ```
//!
//! What the maps hold is known from the start, when they're read once, so only what differs is
//! written, and it costs as much as the change is large. Each of the steps above is taken for all
//! Services before the next one: at no moment does anything lead to what isn't there. If a write
//! fails, its Service keeps what it had, and what was written is still known.

mod backends;
#[cfg(test)]
mod fake;
mod frontends;
mod kernel;
mod set;
mod stale;
#[cfg(test)]
mod tests;
mod translations;
mod unanswered;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bpf_abi::service::{self as abi, Choice};
use model::ServiceName;
use plan::{BackendSet, Object, Part, Scope, ServicePort, ServicePortId};

use crate::bpf::service::{At, Entries, ServiceMaps};
use crate::{Error, Result};
use backends::{Backends, Fnv, Known};
use frontends::Frontends;
use set::{Set, Unclaimed};

pub(crate) use stale::Stale;
pub(crate) use translations::Translations;
use unanswered::Unanswered;

/// What a change did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many entries and elements were written or removed.
    pub(crate) writes: usize,
    /// Services of which something couldn't be written, and why.
    pub(crate) failures: BTreeMap<ServiceName, Error>,
    /// What connections began that are no longer right.
    pub(crate) stale: Stale,
}

/// What the kernel holds of Services.
#[derive(Debug)]
pub(crate) struct Services {
    backends: Backends,
    frontends: Frontends,
    ports: BTreeMap<ServicePortId, Held>,
    addresses: BTreeMap<ServiceName, Vec<IpAddr>>,
    /// Ids of sets.
    set_ids: HashSet<u32>,
    /// What was there at the start and is nobody's yet.
    unclaimed: Unclaimed,
    /// Backends that are there and don't fit, or that no set has.
    idle: BTreeSet<Known>,
    /// Whether what our table holds isn't known.
    unread: bool,
    /// Who may wait for endpoints that are gone.
    unanswered: Unanswered,
}

/// A port, as it is held.
#[derive(Debug)]
struct Held {
    port: Arc<ServicePort>,
    cluster: Set,
    local: Option<Set>,
    /// Where it has, or may have, a frontend.
    places: BTreeSet<At>,
}

/// What becomes of a port.
struct Work {
    id: ServicePortId,
    /// None if it goes.
    port: Option<Arc<ServicePort>>,
    /// None if it's new.
    before: Option<Arc<ServicePort>>,
}

impl Services {
    /// Reads the maps.
    pub(crate) fn read(maps: &impl ServiceMaps) -> Result<Services> {
        let Entries {
            backends,
            slots,
            frontends,
            sources,
        } = maps.entries()?;
        let (backends, odd) = Backends::found(backends);
        Ok(Services {
            backends,
            frontends: Frontends::found(frontends),
            ports: BTreeMap::new(),
            addresses: BTreeMap::new(),
            set_ids: HashSet::new(),
            unclaimed: Unclaimed::new(slots, sources),
            idle: odd.into_iter().collect(),
            unread: true,
            unanswered: Unanswered::default(),
        })
    }

    /// What our table holds was lost, or never read: it's compared at the next change.
    pub(crate) fn forget_translations(&mut self) {
        self.unread = true;
    }

    /// Makes the kernel hold these Services and no others.
    pub(crate) fn apply_all(
        &mut self,
        maps: &impl ServiceMaps,
        table: &impl Translations,
        parts: &BTreeMap<&ServiceName, &Part>,
        now: Instant,
    ) -> Outcome {
        let held = self
            .ports
            .keys()
            .map(|id| &id.service)
            .chain(self.addresses.keys());
        let gone: BTreeSet<ServiceName> = held.filter(|name| !parts.contains_key(name)).cloned().collect();
        let wanted = parts.iter().map(|(name, part)| (*name, Some(*part)));
        let changes = gone.iter().map(|name| (name, None)).chain(wanted).collect();
        let mut outcome = self.run(maps, table, &changes, true, now);
        let swept = self.sweep(maps, table, &mut outcome, now);
        outcome.note(&ServiceName::default(), swept);
        outcome
    }

    /// Makes the kernel hold these Services as they're to be, or not at all, and leaves the others as
    /// they are.
    pub(crate) fn apply(
        &mut self,
        maps: &impl ServiceMaps,
        table: &impl Translations,
        changes: &BTreeMap<&ServiceName, Option<&Part>>,
        now: Instant,
    ) -> Outcome {
        self.run(maps, table, changes, false, now)
    }

    /// `whole`: nobody else has a Service.
    fn run(
        &mut self,
        maps: &impl ServiceMaps,
        table: &impl Translations,
        changes: &BTreeMap<&ServiceName, Option<&Part>>,
        whole: bool,
        now: Instant,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut works = self.works(changes);
        let mut new = Vec::new();
        for work in &works {
            let result = self.put_backends(maps, work, &mut new, now);
            outcome.note(&work.id.service, result);
        }
        match self.translate(table, &new) {
            Ok(writes) => outcome.writes += writes,
            Err(error) => {
                // Nothing may lead to what isn't translated.
                let failed = |name: &ServiceName| (name.clone(), Error::Untranslated(error.to_string()));
                outcome.failures.extend(changes.keys().map(|name| failed(name)));
                self.unread = true;
                return outcome;
            }
        }
        works.retain(|work| !outcome.failures.contains_key(&work.id.service));
        for work in &works {
            let result = self.put_port(maps, work);
            outcome.note(&work.id.service, result);
        }
        for (name, part) in changes {
            let result = self.put_addresses(maps, name, *part);
            outcome.note(name, result);
        }
        if whole {
            // Of what was found some may lead to the same sets as what is wanted.
            let result = self.remove_surplus(maps, &mut outcome.stale);
            if result.is_err() {
                works.clear();
            }
            outcome.note(&ServiceName::default(), result);
        }
        works.retain(|work| !outcome.failures.contains_key(&work.id.service));
        for work in &works {
            let id_of = |socket: &SocketAddr| self.backends.id(socket);
            let (before, after) = (work.before.as_deref(), work.port.as_deref());
            outcome.stale.learn(&work.id, before, after, id_of);
            let result = self.trim_port(maps, work, &mut outcome.stale);
            outcome.note(&work.id.service, result);
        }
        let removed = self.remove_idle(maps, table, &mut outcome.stale, now);
        outcome.note(&ServiceName::default(), removed);
        outcome
    }

    /// The ports that changed.
    fn works(&self, changes: &BTreeMap<&ServiceName, Option<&Part>>) -> Vec<Work> {
        let mut works = Vec::new();
        for (name, part) in changes {
            let objects = part.iter().flat_map(|part| &part.objects);
            let ports = objects.filter_map(|object| match object {
                Object::Service(port) => Some((port.id.clone(), port)),
                _ => None,
            });
            let wanted: BTreeMap<ServicePortId, &Arc<ServicePort>> = ports.collect();
            let held = self.held(name);
            let gone = held.filter(|(id, _)| !wanted.contains_key(*id));
            works.extend(gone.map(|(id, held)| Work {
                id: id.clone(),
                port: None,
                before: Some(held.port.clone()),
            }));
            for (id, port) in wanted {
                let before = self.ports.get(&id).map(|held| held.port.clone());
                let port = Some(port.clone());
                works.push(Work { id, port, before });
            }
        }
        works
    }

    /// What is held of a Service.
    fn held(&self, name: &ServiceName) -> impl Iterator<Item = (&ServicePortId, &Held)> {
        let first = ServicePortId {
            service: name.clone(),
            v4: false,
            protocol: model::Protocol::ALL[0],
            port: 0,
        };
        let name = name.clone();
        self.ports
            .range(first..)
            .take_while(move |(id, _)| id.service == name)
    }

    /// Writes the backends that a port's sets lack.
    fn put_backends(
        &mut self,
        maps: &impl ServiceMaps,
        work: &Work,
        new: &mut Vec<Known>,
        now: Instant,
    ) -> Result<usize> {
        let Some(port) = &work.port else { return Ok(0) };
        self.claim(port);
        let held = self.ports.get_mut(&work.id).expect("it is claimed");
        let mut writes = 0;
        for (scope, wanted) in port.sets() {
            let set = held.set_mut(scope).expect("it is claimed");
            for backend in &wanted.backends {
                let is_new = self.backends.id(&backend.socket).is_none();
                let (id, written) = self.backends.ensure(maps, backend, now)?;
                writes += written;
                new.extend(is_new.then_some((id, backend.socket)));
                if let Err(place) = set.members.binary_search(&backend.socket) {
                    set.members.insert(place, backend.socket);
                    self.backends.hold(&backend.socket);
                }
            }
        }
        Ok(writes)
    }

    /// Says whose the port's frontends and sets are. Sets that are there already are found by the
    /// frontends that lead to them.
    fn claim(&mut self, port: &Arc<ServicePort>) {
        for frontend in &port.frontends {
            let at = frontends::at(port.id.protocol, frontend);
            self.frontends.want(at, &port.id, true);
        }
        if !self.ports.contains_key(&port.id) {
            let cluster = self.claim_set(port, Scope::Cluster);
            let held = Held {
                port: port.clone(),
                cluster,
                local: None,
                places: BTreeSet::new(),
            };
            self.ports.insert(port.id.clone(), held);
        }
        if port.local.is_some() && self.ports[&port.id].local.is_none() {
            let local = self.claim_set(port, Scope::Local);
            self.ports.get_mut(&port.id).expect("it is there").local = Some(local);
        }
    }

    fn claim_set(&mut self, port: &ServicePort, scope: Scope) -> Set {
        let found = port.frontends.iter().find_map(|frontend| {
            let found = self.frontends.get(frontends::at(port.id.protocol, frontend))?;
            let choices = [(frontend.inside, found.inside), (frontend.outside, found.outside)];
            let of_scope = choices.into_iter().find(|(one, _)| *one == scope);
            of_scope
                .map(|(_, choice)| choice.set)
                .filter(|set| *set != 0 && !self.set_ids.contains(set))
        });
        let id = found.unwrap_or_else(|| {
            let mut hasher = Fnv::default();
            (&port.id, scope).hash(&mut hasher);
            let first = hasher.finish();
            let mut ids = (0..).map(|next: u64| {
                u32::try_from(1 + first.wrapping_add(next) % u64::from(u32::MAX)).expect("it has 32 bits")
            });
            let free = ids.find(|id| !self.set_ids.contains(id) && !self.unclaimed.has(*id));
            free.expect("there are more ids than sets")
        });
        self.set_ids.insert(id);
        self.unclaimed.claim(id)
    }

    /// Makes our table translate to the backends.
    fn translate(&mut self, table: &impl Translations, new: &[Known]) -> Result<usize> {
        if !self.unread {
            table.change(&[], new)?;
            return Ok(new.len());
        }
        let mut wanted: HashMap<u32, SocketAddr> = self.backends.all().collect();
        let held = table.read()?;
        let surplus: Vec<Known> = held
            .into_iter()
            .filter(|(id, socket)| {
                let fits = wanted.get(id) == Some(socket);
                if fits {
                    wanted.remove(id);
                }
                !fits
            })
            .collect();
        let missing: Vec<Known> = wanted.into_iter().collect();
        table.change(&surplus, &missing)?;
        self.unread = false;
        Ok(surplus.len() + missing.len())
    }

    /// Writes a port's slots, sources and frontends, so that nothing that is gone is led to any more.
    fn put_port(&mut self, maps: &impl ServiceMaps, work: &Work) -> Result<usize> {
        let mut writes = 0;
        if let Some(port) = &work.port {
            let held = self.ports.get_mut(&work.id).expect("it is claimed");
            for (scope, wanted) in port.sets() {
                let ids = |set: &BackendSet| -> Vec<u32> {
                    let slots = set.slots();
                    slots
                        .filter_map(|backend| self.backends.id(&backend.socket))
                        .collect()
                };
                let set = held.set_mut(scope).expect("it is claimed");
                writes += set.admit(maps, &port.ranges)?;
                let slots = match wanted.table {
                    Some(_) => ids(wanted),
                    None => set.arranged(ids(wanted)),
                };
                writes += set.write(maps, &slots)?;
            }
        }
        let frontends = work.port.iter().flat_map(|port| &port.frontends);
        let wanted: BTreeSet<At> = frontends
            .map(|frontend| frontends::at(work.id.protocol, frontend))
            .collect();
        let places = self.ports.get(&work.id).map(|held| held.places.clone());
        for at in places.unwrap_or_default().union(&wanted) {
            let owner = self.frontends.want(*at, &work.id, wanted.contains(at)).cloned();
            writes += match owner.and_then(|owner| self.value(&owner, *at, work)) {
                Some(value) => self.frontends.write(maps, *at, value)?,
                None => self.frontends.remove(maps, *at)?,
            };
        }
        if let Some(held) = self.ports.get_mut(&work.id) {
            held.places = wanted;
            held.port = work.port.clone().unwrap_or_else(|| held.port.clone());
        }
        Ok(writes)
    }

    /// What a frontend of a port is in the maps.
    fn value(&self, owner: &ServicePortId, at: At, work: &Work) -> Option<abi::Frontend> {
        let held = self.ports.get(owner)?;
        let changed = work.port.as_ref().filter(|_| *owner == work.id);
        let port = changed.unwrap_or(&held.port);
        let mut frontends = port.frontends.iter();
        let frontend = frontends.find(|frontend| frontends::at(owner.protocol, frontend) == at)?;
        let choice = |scope| {
            let set = match scope {
                Scope::Cluster => Some(&held.cluster),
                Scope::Local => held.local.as_ref(),
            };
            set.map_or(Choice { set: 0, slots: 0 }, |set| Choice {
                set: set.id,
                slots: set.count,
            })
        };
        Some(frontends::value(port, frontend, choice))
    }

    /// Writes what a Service's addresses answer to pings.
    fn put_addresses(
        &mut self,
        maps: &impl ServiceMaps,
        name: &ServiceName,
        part: Option<&Part>,
    ) -> Result<usize> {
        let objects = part.into_iter().flat_map(|part| &part.objects);
        let wanted: BTreeMap<IpAddr, bool> = objects
            .filter_map(|object| match object {
                Object::ServiceAddress(own) => Some((own.address, own.served)),
                _ => None,
            })
            .collect();
        let held = self.addresses.remove(name).unwrap_or_default();
        let mut writes = 0;
        let all: BTreeSet<IpAddr> = held.into_iter().chain(wanted.keys().copied()).collect();
        let now = wanted.keys().copied().collect::<Vec<_>>();
        if !now.is_empty() {
            self.addresses.insert(name.clone(), now);
        }
        for address in all {
            let at = frontends::ping_at(address);
            self.frontends.want_ping(at, name, wanted.get(&address).copied());
            writes += if self.frontends.is_wanted(at) {
                self.frontends.write_ping(maps, at)?
            } else {
                self.frontends.remove(maps, at)?
            };
        }
        Ok(writes)
    }

    /// Removes what no frontend of the port leads to any more.
    fn trim_port(&mut self, maps: &impl ServiceMaps, work: &Work, stale: &mut Stale) -> Result<usize> {
        let Some(held) = self.ports.get_mut(&work.id) else {
            return Ok(0);
        };
        let mut writes = 0;
        let clients_stay = held.port.affinity.is_some();
        for scope in [Scope::Cluster, Scope::Local] {
            let wanted = work.port.as_ref().and_then(|port| port.set(scope));
            let Some(set) = held.set_mut(scope) else { continue };
            let ranges = work.port.iter().filter(|_| wanted.is_some());
            let ranges: Vec<_> = ranges.flat_map(|port| &port.ranges).copied().collect();
            if wanted.is_none() {
                set.count = 0;
            }
            writes += set.trim(maps)?;
            writes += set.bar(maps, &ranges)?;
            let serves = |socket: &SocketAddr| {
                wanted.is_some_and(|set| {
                    let place = set.backends.binary_search_by(|one| one.socket.cmp(socket));
                    place.is_ok()
                })
            };
            for socket in set.members.extract_if(.., |socket| !serves(socket)) {
                let Some(id) = self.backends.id(&socket) else {
                    continue;
                };
                if clients_stay {
                    stale.leave(set.id, id);
                }
                if self.backends.release(&socket) {
                    self.idle.insert((id, socket));
                }
            }
            if wanted.is_none() {
                self.set_ids.remove(&set.id);
            }
        }
        if work.port.as_ref().is_none_or(|port| port.local.is_none()) {
            held.local = None;
        }
        if work.port.is_none() {
            self.ports.remove(&work.id);
        }
        Ok(writes)
    }

    /// Removes backends that no set has any more, and their translations.
    fn remove_idle(
        &mut self,
        maps: &impl ServiceMaps,
        table: &impl Translations,
        stale: &mut Stale,
        now: Instant,
    ) -> Result<usize> {
        // Some other set may have taken one up again.
        self.idle
            .retain(|(id, socket)| self.backends.id(socket) != Some(*id) || self.backends.is_idle(socket));
        let idle: Vec<Known> = self.idle.iter().copied().collect();
        let known = idle
            .iter()
            .filter(|(id, socket)| self.backends.id(socket) == Some(*id));
        let known: Vec<Known> = known.copied().collect();
        table.change(&known, &[])?;
        for (id, socket) in &idle {
            if self.backends.id(socket) == Some(*id) {
                self.backends.remove(maps, socket, now)?;
            } else {
                maps.remove_backend(*id, socket.is_ipv4())?;
            }
            stale.remove(*id);
            self.unanswered.leave(*socket);
            self.idle.remove(&(*id, *socket));
        }
        Ok(idle.len() + known.len())
    }

    /// Removes the frontends that nobody wants.
    fn remove_surplus(&mut self, maps: &impl ServiceMaps, stale: &mut Stale) -> Result<usize> {
        let all = self.frontends.all().filter(|at| !self.frontends.is_wanted(*at));
        let surplus: Vec<At> = all.collect();
        let mut writes = 0;
        for at in surplus {
            writes += self.frontends.remove(maps, at)?;
            stale.close(at);
        }
        Ok(writes)
    }

    /// Removes what was there at the start and is nobody's.
    fn sweep(
        &mut self,
        maps: &impl ServiceMaps,
        table: &impl Translations,
        outcome: &mut Outcome,
        now: Instant,
    ) -> Result<usize> {
        let writes = self.unclaimed.clear(maps)?;
        if !outcome.failures.is_empty() {
            // Slots that couldn't be rewritten may lead to any of the backends.
            return Ok(writes);
        }
        let idle = self
            .backends
            .all()
            .filter(|(_, socket)| self.backends.is_idle(socket));
        let idle: Vec<Known> = idle.collect();
        idle.iter().for_each(|(_, socket)| outcome.stale.lose(*socket));
        self.idle.extend(idle);
        Ok(writes + self.remove_idle(maps, table, &mut outcome.stale, now)?)
    }
}

impl Held {
    fn set_mut(&mut self, scope: Scope) -> Option<&mut Set> {
        match scope {
            Scope::Cluster => Some(&mut self.cluster),
            Scope::Local => self.local.as_mut(),
        }
    }
}

impl Outcome {
    fn note(&mut self, service: &ServiceName, result: Result<usize>) {
        match result {
            Ok(writes) => self.writes += writes,
            Err(error) => drop(self.failures.entry(service.clone()).or_insert(error)),
        }
    }
}
