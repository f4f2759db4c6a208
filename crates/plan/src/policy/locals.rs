//! The pods of this node: the policies that select them, and the sets that hold for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{AttachmentId, Direction, NamespacedName, Protocol};

use super::compile::{Compiled, Set};
use super::id::Digests;
use super::index::Owner;
use super::profile::Profile;
use super::registry::Registry;
use super::term::{Term, TermId};
use super::{Isolation, SetId};

/// A port by name, as egress rules ask for it.
pub(super) type AskedPort = (String, Protocol);

#[derive(Debug, Default)]
pub(super) struct Locals {
    by_profile: BTreeMap<Arc<Profile>, Local>,
    attachments: BTreeMap<AttachmentId, (Owner, Vec<IpAddr>)>,
    addresses: BTreeMap<IpAddr, BTreeSet<AttachmentId>>,
    /// How many profiles each policy selects.
    users: BTreeMap<NamespacedName, usize>,
    /// Profiles whose sets are to be worked out.
    stale: BTreeSet<Arc<Profile>>,
    /// Addresses whose isolation may have changed.
    touched: BTreeSet<IpAddr>,
    /// What the rules of policies in use ask for.
    pub(super) terms: Registry<TermId, Arc<Term>>,
    pub(super) ports: BTreeMap<AskedPort, usize>,
    pub(super) in_use: Registry<SetId, Arc<Set>>,
}

/// Pods of this node that are alike.
#[derive(Debug, Default)]
struct Local {
    attachments: BTreeSet<AttachmentId>,
    policies: BTreeSet<NamespacedName>,
    sets: [Option<(SetId, Arc<Set>)>; 2],
}

impl Locals {
    /// What is attached, and whose it is; none if it's detached.
    pub(super) fn set(
        &mut self,
        id: &AttachmentId,
        owner: Option<Owner>,
        addresses: Vec<IpAddr>,
        policies: &BTreeMap<NamespacedName, Compiled>,
    ) {
        let held = self.attachments.get(id);
        if held.is_some_and(|held| owner.as_ref() == Some(&held.0) && held.1 == addresses) {
            return;
        }
        if let Some((owner, addresses)) = self.attachments.remove(id) {
            self.forget(id, owner, addresses, policies);
        }
        let Some(owner) = owner else {
            return;
        };
        for address in &addresses {
            self.addresses.entry(*address).or_default().insert(id.clone());
            self.touched.insert(*address);
        }
        if let Owner::Pod(profile) = &owner {
            self.join(id, profile, policies);
        }
        self.attachments.insert(id.clone(), (owner, addresses));
    }

    fn forget(
        &mut self,
        id: &AttachmentId,
        owner: Owner,
        addresses: Vec<IpAddr>,
        policies: &BTreeMap<NamespacedName, Compiled>,
    ) {
        for address in addresses {
            self.touched.insert(address);
            let Some(ids) = self.addresses.get_mut(&address) else {
                continue;
            };
            ids.remove(id);
            if ids.is_empty() {
                self.addresses.remove(&address);
            }
        }
        let Owner::Pod(profile) = owner else {
            return;
        };
        let Some(local) = self.by_profile.get_mut(&profile) else {
            return;
        };
        local.attachments.remove(id);
        if !local.attachments.is_empty() {
            return;
        }
        let local = self.by_profile.remove(&profile).expect("it was there");
        for (id, set) in local.sets.into_iter().flatten() {
            self.in_use.release(id, &set);
        }
        for name in local.policies {
            if let Some(policy) = policies.get(&name) {
                self.release(&name, policy);
            }
        }
    }

    fn join(
        &mut self,
        id: &AttachmentId,
        profile: &Arc<Profile>,
        policies: &BTreeMap<NamespacedName, Compiled>,
    ) {
        if let Some(local) = self.by_profile.get_mut(profile) {
            local.attachments.insert(id.clone());
            return;
        }
        let mut local = Local::default();
        local.attachments.insert(id.clone());
        for (name, policy) in of_namespace(policies, &profile.namespace) {
            if policy.policy.pods.matches(&profile.labels) {
                local.policies.insert(name.clone());
                self.acquire(name, policy);
            }
        }
        self.by_profile.insert(profile.clone(), local);
        self.stale.insert(profile.clone());
    }

    /// A policy is there.
    pub(super) fn select(&mut self, name: &NamespacedName, policy: &Compiled) {
        let mut selected = 0;
        for (profile, local) in &mut self.by_profile {
            let matches = profile.namespace == name.namespace && policy.policy.pods.matches(&profile.labels);
            if matches && local.policies.insert(name.clone()) {
                self.stale.insert(profile.clone());
                selected += 1;
            }
        }
        for _ in 0..selected {
            self.acquire(name, policy);
        }
    }

    /// A policy is gone, or will be another.
    pub(super) fn deselect(&mut self, name: &NamespacedName, policy: &Compiled) {
        let mut deselected = 0;
        for (profile, local) in &mut self.by_profile {
            if local.policies.remove(name) {
                self.stale.insert(profile.clone());
                deselected += 1;
            }
        }
        for _ in 0..deselected {
            self.release(name, policy);
        }
    }

    fn acquire(&mut self, name: &NamespacedName, policy: &Compiled) {
        let users = self.users.entry(name.clone()).or_default();
        *users += 1;
        if *users > 1 {
            return;
        }
        for (id, term) in &policy.terms {
            self.terms.add(*id, term.clone());
        }
        for (name, protocol) in policy.asked_ports() {
            *self.ports.entry((name.to_owned(), protocol)).or_default() += 1;
        }
    }

    fn release(&mut self, name: &NamespacedName, policy: &Compiled) {
        let Some(users) = self.users.get_mut(name) else {
            return;
        };
        *users -= 1;
        if *users > 0 {
            return;
        }
        self.users.remove(name);
        for (id, term) in &policy.terms {
            self.terms.release(*id, term);
        }
        for (name, protocol) in policy.asked_ports() {
            let asked = (name.to_owned(), protocol);
            if let Some(users) = self.ports.get_mut(&asked) {
                *users -= 1;
                if *users == 0 {
                    self.ports.remove(&asked);
                }
            }
        }
    }

    /// Works out the sets of those whose policies have changed.
    pub(super) fn settle(&mut self, policies: &BTreeMap<NamespacedName, Compiled>, digests: Digests) {
        for profile in std::mem::take(&mut self.stale) {
            let Some(local) = self.by_profile.get_mut(&profile) else {
                continue;
            };
            for direction in Direction::ALL {
                let selected = local.policies.iter();
                let selected = selected.filter_map(|name| policies.get_key_value(name));
                let set = Set::new(direction, &profile, selected);
                let set = set.map(|set| (set.id(digests), Arc::new(set)));
                if local.sets[direction as usize] == set {
                    continue;
                }
                if let Some((id, set)) = &set {
                    self.in_use.add(*id, set.clone());
                }
                if let Some((id, old)) = std::mem::replace(&mut local.sets[direction as usize], set) {
                    self.in_use.release(id, &old);
                }
                for id in &local.attachments {
                    let addresses = self.attachments.get(id).into_iter();
                    self.touched
                        .extend(addresses.flat_map(|(_, addresses)| addresses.iter().copied()));
                }
            }
        }
    }

    pub(super) fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.touched)
    }

    /// What holds for an address of this node's pods; none if it's kept from everything.
    pub(super) fn isolation(&self, address: IpAddr) -> Option<Isolation> {
        let mut ids = self.addresses.get(&address)?.iter();
        let (Some(id), None) = (ids.next(), ids.next()) else {
            return None;
        };
        match &self.attachments.get(id)?.0 {
            Owner::Nobody => Some(Isolation::default()),
            Owner::Unknown => None,
            Owner::Pod(profile) => {
                let [ingress, egress] = &self.by_profile.get(profile)?.sets;
                let id = |set: &Option<(SetId, Arc<Set>)>| set.as_ref().map_or(SetId::FREE, |(id, _)| *id);
                Some(Isolation {
                    ingress: id(ingress),
                    egress: id(egress),
                })
            }
        }
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = (SetId, &Set)> {
        self.in_use.iter().map(|(id, set)| (id, &**set))
    }

    pub(super) fn set_of(&self, id: SetId) -> Option<&Set> {
        self.in_use.get(id).map(|set| &**set)
    }

    /// Addresses that more than one attachment has.
    pub(super) fn shared(&self) -> impl Iterator<Item = IpAddr> {
        let shared = self.addresses.iter().filter(|(_, ids)| ids.len() > 1);
        shared.map(|(address, _)| *address)
    }

    pub(super) fn collisions(&self) -> impl Iterator<Item = &'static str> {
        let sets = self.in_use.collisions().map(|_| "sets");
        sets.chain(self.terms.collisions().map(|_| "terms"))
    }
}

/// The policies of a namespace.
fn of_namespace<'a>(
    policies: &'a BTreeMap<NamespacedName, Compiled>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a NamespacedName, &'a Compiled)> {
    let first = NamespacedName::new(namespace, "");
    policies
        .range(first..)
        .take_while(move |(name, _)| name.namespace == namespace)
}
