//! What addresses are to the policies of a node: their classes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{AttachmentId, Labels, NamedPort, NamespacedName};

use super::ClassId;
use super::id::Digests;
use super::locals::AskedPort;
use super::profile::Profile;
use super::regions::Regions;
use super::registry::Registry;
use super::tables::Tracked;
use super::term::{Term, TermId};

#[derive(Debug, Default)]
pub(super) struct Peers {
    /// By namespace.
    profiles: BTreeMap<String, BTreeMap<Arc<Profile>, Facts>>,
    claims: BTreeMap<Claimer, Claim>,
    addresses: BTreeMap<IpAddr, Address>,
    regions: Regions,
    in_regions: BTreeMap<IpNet, Classed>,
    /// The terms that are in use, and the ports by name.
    terms: BTreeMap<TermId, Arc<Term>>,
    asked: BTreeSet<AskedPort>,
    /// Addresses whose class may have changed.
    touched: BTreeSet<IpAddr>,
    pub(super) classes: Tracked<IpAddr, ClassId>,
    pub(super) blocks: Tracked<IpNet, ClassId>,
    pub(super) in_use: Registry<ClassId, Arc<Class>>,
}

/// What an address matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) terms: BTreeSet<TermId>,
    /// The ports that egress rules ask for by name.
    pub(super) ports: BTreeSet<NamedPort>,
}

type Classed = (ClassId, Arc<Class>);

/// What a profile matches, and whose it is.
#[derive(Debug, Default)]
struct Facts {
    terms: BTreeSet<TermId>,
    ports: BTreeSet<NamedPort>,
    claimers: BTreeSet<Claimer>,
}

/// Who says whose an address is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claimer {
    Dns,
    Pod(NamespacedName),
    Attachment(AttachmentId),
}

/// Whose addresses are; none: nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    profile: Option<Arc<Profile>>,
    addresses: BTreeSet<IpAddr>,
}

#[derive(Debug, Default)]
struct Address {
    claimers: BTreeSet<Claimer>,
    class: Option<Classed>,
}

/// The terms in use, and the cluster's namespaces: what new profiles are compared with.
pub(super) type Namespaces = BTreeMap<String, Labels>;

impl Peers {
    /// The cluster's DNS has these addresses on every node.
    pub(super) fn claim_dns(&mut self, addresses: BTreeSet<IpAddr>, namespaces: &Namespaces) {
        self.claim(Claimer::Dns, Some(Profile::dns()), addresses, namespaces);
    }

    /// A pod has these addresses.
    pub(super) fn claim_pod(
        &mut self,
        name: &NamespacedName,
        profile: Profile,
        addresses: BTreeSet<IpAddr>,
        namespaces: &Namespaces,
    ) {
        self.claim(Claimer::Pod(name.clone()), Some(profile), addresses, namespaces);
    }

    pub(super) fn release_pod(&mut self, name: &NamespacedName) {
        self.release(&Claimer::Pod(name.clone()));
    }

    /// These addresses are of an attachment that no pod is known for.
    pub(super) fn claim_unknown(&mut self, id: &AttachmentId, addresses: BTreeSet<IpAddr>) {
        self.claim(
            Claimer::Attachment(id.clone()),
            None,
            addresses,
            &Namespaces::new(),
        );
    }

    fn claim(
        &mut self,
        claimer: Claimer,
        profile: Option<Profile>,
        addresses: BTreeSet<IpAddr>,
        namespaces: &Namespaces,
    ) {
        if let Some(held) = self.claims.get(&claimer)
            && held.profile.as_deref() == profile.as_ref()
            && held.addresses == addresses
        {
            return;
        }
        self.release(&claimer);
        if addresses.is_empty() {
            return;
        }
        let profile = profile.map(|profile| self.join(profile, &claimer, namespaces));
        for address in &addresses {
            let entry = self.addresses.entry(*address).or_default();
            entry.claimers.insert(claimer.clone());
        }
        self.touched.extend(addresses.iter().copied());
        self.claims.insert(claimer, Claim { profile, addresses });
    }

    fn release(&mut self, claimer: &Claimer) {
        let Some(Claim { profile, addresses }) = self.claims.remove(claimer) else {
            return;
        };
        for address in &addresses {
            if let Some(entry) = self.addresses.get_mut(address) {
                entry.claimers.remove(claimer);
            }
        }
        self.touched.extend(addresses);
        let Some(profile) = profile else {
            return;
        };
        let Some(of_namespace) = self.profiles.get_mut(&profile.namespace) else {
            return;
        };
        if let Some(facts) = of_namespace.get_mut(&profile) {
            facts.claimers.remove(claimer);
            if facts.claimers.is_empty() {
                of_namespace.remove(&profile);
            }
        }
        if of_namespace.is_empty() {
            self.profiles.remove(&profile.namespace);
        }
    }

    /// The profile, one for all that have it.
    fn join(&mut self, profile: Profile, claimer: &Claimer, namespaces: &Namespaces) -> Arc<Profile> {
        let of_namespace = self.profiles.entry(profile.namespace.clone()).or_default();
        let held = of_namespace.get_key_value(&profile).map(|(held, _)| held.clone());
        if let Some(held) = held {
            if let Some(facts) = of_namespace.get_mut(&held) {
                facts.claimers.insert(claimer.clone());
            }
            return held;
        }
        let labels = namespaces.get(&profile.namespace);
        let terms = self
            .terms
            .iter()
            .filter(|(_, term)| term.matches(&profile, labels));
        let facts = Facts {
            terms: terms.map(|(id, _)| *id).collect(),
            ports: asked(&self.asked, &profile),
            claimers: BTreeSet::from([claimer.clone()]),
        };
        let profile = Arc::new(profile);
        of_namespace.insert(profile.clone(), facts);
        profile
    }

    /// Terms have come into use, or out of it.
    pub(super) fn set_terms(
        &mut self,
        touched: &BTreeSet<TermId>,
        in_use: &Registry<TermId, Arc<Term>>,
        namespaces: &Namespaces,
    ) {
        for id in touched {
            let now = in_use.get(*id).cloned();
            if self.terms.get(id) == now.as_ref() {
                continue;
            }
            if let Some(old) = self.terms.remove(id) {
                self.remove_term(*id, &old);
            }
            if let Some(term) = now {
                self.add_term(*id, term, namespaces);
            }
        }
    }

    fn add_term(&mut self, id: TermId, term: Arc<Term>, namespaces: &Namespaces) {
        self.terms.insert(id, term.clone());
        if term.is_block() {
            self.regions.add(id, term);
            return;
        }
        for (namespace, profiles) in &mut self.profiles {
            if !term.is_in(namespace, namespaces.get(namespace)) {
                continue;
            }
            for (profile, facts) in profiles {
                if term.selects(&profile.labels) {
                    facts.terms.insert(id);
                    touch(&mut self.touched, &self.claims, facts);
                }
            }
        }
    }

    fn remove_term(&mut self, id: TermId, term: &Term) {
        if term.is_block() {
            self.regions.remove(id);
            return;
        }
        for facts in self.profiles.values_mut().flat_map(BTreeMap::values_mut) {
            if facts.terms.remove(&id) {
                touch(&mut self.touched, &self.claims, facts);
            }
        }
    }

    /// The labels of namespaces have changed.
    pub(super) fn set_namespaces(&mut self, changed: &BTreeSet<String>, namespaces: &Namespaces) {
        for name in changed {
            let profiles = self.profiles.get_mut(name).into_iter().flatten();
            for (profile, facts) in profiles {
                let labels = namespaces.get(name);
                let terms = self
                    .terms
                    .iter()
                    .filter(|(_, term)| term.matches(profile, labels));
                let terms: BTreeSet<TermId> = terms.map(|(id, _)| *id).collect();
                if facts.terms != terms {
                    facts.terms = terms;
                    touch(&mut self.touched, &self.claims, facts);
                }
            }
        }
    }

    /// What ports egress rules ask for by name.
    pub(super) fn set_ports<'a>(&mut self, asked_for: impl Iterator<Item = &'a AskedPort>) {
        let now: BTreeSet<AskedPort> = asked_for.cloned().collect();
        if now == self.asked {
            return;
        }
        self.asked = now;
        for (profile, facts) in self.profiles.values_mut().flatten() {
            let ports = asked(&self.asked, profile);
            if facts.ports != ports {
                facts.ports = ports;
                touch(&mut self.touched, &self.claims, facts);
            }
        }
    }

    /// Works out the classes of what has changed.
    pub(super) fn settle(&mut self, digests: Digests) {
        self.settle_regions(digests);
        // Of pods that are alike, in the same region: they have one class.
        let mut known: BTreeMap<(*const Profile, Option<IpNet>), Option<Classed>> = BTreeMap::new();
        for address in std::mem::take(&mut self.touched) {
            let Some(entry) = self.addresses.get(&address) else {
                continue;
            };
            let region = self.regions.of(address);
            let alone = self
                .only_profile(entry)
                .map(|profile| (Arc::as_ptr(profile), region.map(|(net, _)| net)));
            let class = match alone.and_then(|key| known.get(&key)) {
                Some(class) => class.clone(),
                None => classed(self.content(entry, region.map(|(_, terms)| terms)), digests),
            };
            if let Some(key) = alone {
                known.insert(key, class.clone());
            }
            let around = region.and_then(|(net, _)| self.in_regions.get(&net));
            let around = around.map_or(ClassId::ANY, |(id, _)| *id);
            self.put_class(address, class, around);
        }
    }

    fn only_profile<'a>(&'a self, entry: &Address) -> Option<&'a Arc<Profile>> {
        let mut claimers = entry.claimers.iter();
        match (claimers.next(), claimers.next()) {
            (Some(claimer), None) => self.claims.get(claimer)?.profile.as_ref(),
            _ => None,
        }
    }

    /// What matches, whoever of those who claim the address has it: two pods that both do match only
    /// what each of them would.
    fn content(&self, entry: &Address, region: Option<&BTreeSet<TermId>>) -> Class {
        let facts = entry.claimers.iter().map(|claimer| {
            let profile = self.claims.get(claimer)?.profile.as_ref()?;
            self.profiles.get(&profile.namespace)?.get(profile)
        });
        let of = |facts: Option<&Facts>| {
            facts.map_or_else(Class::default, |facts| Class {
                terms: facts.terms.clone(),
                ports: facts.ports.clone(),
            })
        };
        let both = |one: Class, other: Class| Class {
            terms: &one.terms & &other.terms,
            ports: &one.ports & &other.ports,
        };
        let mut class = facts.map(of).reduce(both).unwrap_or_default();
        class.terms.extend(region.into_iter().flatten());
        class
    }

    fn put_class(&mut self, address: IpAddr, class: Option<Classed>, around: ClassId) {
        let Some(entry) = self.addresses.get_mut(&address) else {
            return;
        };
        let is_claimed = !entry.claimers.is_empty();
        let class = class.filter(|_| is_claimed);
        let id = class.as_ref().map_or(ClassId::ANY, |(id, _)| *id);
        self.classes
            .set(address, (is_claimed && id != around).then_some(id));
        if entry.class != class {
            if let Some((id, class)) = &class {
                self.in_use.add(*id, class.clone());
            }
            if let Some((id, old)) = std::mem::replace(&mut entry.class, class) {
                self.in_use.release(id, &old);
            }
        }
        if !is_claimed {
            self.addresses.remove(&address);
        }
    }

    fn settle_regions(&mut self, digests: Digests) {
        let changed = self.regions.refresh();
        if changed.is_empty() {
            return;
        }
        for net in changed {
            let terms = self.regions.terms(net).cloned().unwrap_or_default();
            let class = classed(
                Class {
                    terms,
                    ports: BTreeSet::new(),
                },
                digests,
            );
            if let Some((id, class)) = &class {
                self.in_use.add(*id, class.clone());
            }
            let old = match class {
                Some(class) => self.in_regions.insert(net, class),
                None => self.in_regions.remove(&net),
            };
            if let Some((id, old)) = old {
                self.in_use.release(id, &old);
            }
            let inside = self.addresses.range(net.network()..=net.broadcast());
            self.touched.extend(inside.map(|(address, _)| *address));
            self.blocks.set(net, None);
        }
        for net in self.regions.nets() {
            let of = |net: IpNet| self.in_regions.get(&net).map_or(ClassId::ANY, |(id, _)| *id);
            let around = self.regions.around(net).map_or(ClassId::ANY, of);
            let own = of(net);
            self.blocks.set(net, (own != around).then_some(own));
        }
    }

    /// The classes in use, in words.
    pub(super) fn names(&self) -> BTreeMap<ClassId, Vec<String>> {
        let names = self.in_use.iter().map(|(id, class)| {
            let terms = class.terms.iter().filter_map(|term| self.terms.get(term));
            let ports = class.ports.iter();
            let ports = ports.map(|port| format!("{}/{} is {}", port.name, port.protocol, port.port));
            let mut names: Vec<String> = terms.map(ToString::to_string).chain(ports).collect();
            names.sort();
            (id, names)
        });
        names.collect()
    }

    pub(super) fn collisions(&self) -> impl Iterator<Item = &'static str> {
        self.in_use.collisions().map(|_| "classes")
    }
}

fn touch(touched: &mut BTreeSet<IpAddr>, claims: &BTreeMap<Claimer, Claim>, facts: &Facts) {
    let claims = facts.claimers.iter().filter_map(|claimer| claims.get(claimer));
    touched.extend(claims.flat_map(|claim| &claim.addresses));
}

fn asked(asked: &BTreeSet<AskedPort>, profile: &Profile) -> BTreeSet<NamedPort> {
    let ports = profile.ports.iter();
    let is_asked = |port: &&NamedPort| asked.contains(&(port.name.clone(), port.protocol));
    ports.filter(is_asked).cloned().collect()
}

/// A class with its id; what matches nothing has none.
fn classed(class: Class, digests: Digests) -> Option<Classed> {
    if class == Class::default() {
        return None;
    }
    Some((digests.class(&class.terms, &class.ports), Arc::new(class)))
}
