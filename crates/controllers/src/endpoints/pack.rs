//! Endpoints into slices, with as few writes as can be.
//!
//! An endpoint stays in the slice that it is in. New ones go to slices that are written anyway, then to the
//! fullest slice that has room for all of them, then to new slices.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// How many endpoints a slice has at most.
pub(super) const MOST: usize = 100;

/// What all slices of an object have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Template {
    pub(super) namespace: String,
    /// New slices are called like this, with something random behind.
    pub(super) prefix: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) owner: OwnerReference,
}

/// Endpoints that share a family and ports.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// `IPv4` or `IPv6`.
    pub(super) family: String,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// A write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    Create(EndpointSlice),
    /// With the name and version of the one it replaces.
    Update(EndpointSlice),
    Delete(Arc<EndpointSlice>),
}

/// The writes that make the existing slices hold the wanted groups. `families` are those that have a slice even
/// without endpoints, so that whoever looks can tell "none" from "not known yet".
pub(super) fn pack(
    template: &Template,
    groups: Vec<Group>,
    families: &[String],
    existing: &[Arc<EndpointSlice>],
) -> Vec<Action> {
    let mut plan = Plan {
        template,
        kept: 0,
        create: Vec::new(),
        update: Vec::new(),
        idle: Vec::new(),
    };
    let mut by_ports: HashMap<(&str, Vec<PortKey>), Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in existing {
        let ports = slice.ports.as_deref().unwrap_or_default();
        let key = (slice.address_type.as_str(), port_keys(ports));
        by_ports.entry(key).or_default().push(slice);
    }
    let mut seen: Vec<String> = Vec::new();
    for group in &groups {
        seen.push(group.family.clone());
        let key = (group.family.as_str(), port_keys(&group.ports));
        let slices = by_ports.remove(&key).unwrap_or_default();
        plan.group(group, &slices);
    }
    plan.idle.extend(by_ports.into_values().flatten());
    for family in families.iter().filter(|family| !seen.contains(family)) {
        plan.placeholder(family);
    }
    plan.finish()
}

struct Plan<'a> {
    template: &'a Template,
    kept: usize,
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    /// Slices that nothing is left in.
    idle: Vec<&'a Arc<EndpointSlice>>,
}

impl<'a> Plan<'a> {
    fn group(&mut self, group: &Group, slices: &[&'a Arc<EndpointSlice>]) {
        let mut wanted: HashMap<Identity<'_>, &Endpoint> = HashMap::new();
        for endpoint in &group.endpoints {
            wanted.insert(identity(endpoint), endpoint);
        }
        let (mut unchanged, mut changed) = (Vec::new(), Vec::new());
        for slice in slices {
            let old = slice.endpoints.as_deref().unwrap_or_default();
            let kept: Vec<Endpoint> = old
                .iter()
                .filter_map(|endpoint| wanted.remove(&identity(endpoint)).cloned())
                .collect();
            if kept.is_empty() {
                self.idle.push(slice);
            } else if kept == old && self.template.fits(&slice.metadata) {
                unchanged.push((*slice, kept));
            } else {
                changed.push((*slice, kept));
            }
        }
        // In the order in which they came, so that the same input gives the same slices.
        let mut new: Vec<Endpoint> = group
            .endpoints
            .iter()
            .filter(|endpoint| wanted.remove(&identity(endpoint)).is_some())
            .cloned()
            .collect();
        for (_, kept) in &mut changed {
            fill(kept, &mut new);
        }
        if !new.is_empty() {
            let with_room = unchanged.iter().enumerate();
            let with_room = with_room.filter(|(_, (_, kept))| kept.len() + new.len() <= MOST);
            let fullest = with_room.max_by_key(|(_, (_, kept))| kept.len());
            if let Some(index) = fullest.map(|(index, _)| index) {
                let (slice, mut kept) = unchanged.swap_remove(index);
                fill(&mut kept, &mut new);
                changed.push((slice, kept));
            }
        }
        self.kept += unchanged.len();
        for (slice, endpoints) in changed {
            self.update.push(self.replaced(slice, group, endpoints));
        }
        for chunk in new.chunks(MOST) {
            self.create
                .push(self.made(&group.family, &group.ports, chunk.to_vec()));
        }
    }

    /// A slice that says that there are no endpoints.
    fn placeholder(&mut self, family: &str) {
        let is_one = |slice: &EndpointSlice| {
            slice.address_type == family
                && slice.endpoints.iter().flatten().next().is_none()
                && slice.ports.iter().flatten().next().is_none()
                && self.template.fits(&slice.metadata)
        };
        match self.idle.iter().position(|slice| is_one(slice)) {
            Some(index) => {
                self.idle.swap_remove(index);
                self.kept += 1;
            }
            None => self.create.push(self.made(family, &[], Vec::new())),
        }
    }

    /// A slice that would go takes the place of one that would come.
    fn finish(mut self) -> Vec<Action> {
        let mut fresh = Vec::new();
        for slice in std::mem::take(&mut self.create) {
            let like = |idle: &&Arc<EndpointSlice>| idle.address_type == slice.address_type;
            match self.idle.iter().position(like) {
                Some(index) => {
                    let old = self.idle.swap_remove(index);
                    let mut update = slice;
                    update.metadata = self.template.over(&old.metadata);
                    self.update.push(update);
                }
                None => fresh.push(slice),
            }
        }
        let creations = fresh.into_iter().map(Action::Create);
        let updates = self.update.into_iter().map(Action::Update);
        let deletions = self
            .idle
            .into_iter()
            .map(|slice| Action::Delete(Arc::clone(slice)));
        creations.chain(updates).chain(deletions).collect()
    }

    fn made(&self, family: &str, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            address_type: family.to_owned(),
            endpoints: Some(endpoints),
            metadata: self.template.fresh(),
            ports: (!ports.is_empty()).then(|| ports.to_vec()),
        }
    }

    fn replaced(&self, old: &EndpointSlice, group: &Group, endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            metadata: self.template.over(&old.metadata),
            ..self.made(&group.family, &group.ports, endpoints)
        }
    }
}

impl Template {
    fn fresh(&self) -> ObjectMeta {
        ObjectMeta {
            generate_name: Some(self.prefix.clone()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels.clone()),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }

    /// The metadata of a slice that exists, as it should be.
    fn over(&self, old: &ObjectMeta) -> ObjectMeta {
        ObjectMeta {
            labels: Some(self.labels.clone()),
            owner_references: Some(vec![self.owner.clone()]),
            ..old.clone()
        }
    }

    fn fits(&self, meta: &ObjectMeta) -> bool {
        let owners = meta.owner_references.as_deref().unwrap_or_default();
        meta.labels.as_ref() == Some(&self.labels) && owners.iter().any(|owner| owner.uid == self.owner.uid)
    }
}

fn fill(slice: &mut Vec<Endpoint>, new: &mut Vec<Endpoint>) {
    let room = MOST.saturating_sub(slice.len()).min(new.len());
    slice.extend(new.drain(..room));
}

type Identity<'a> = (&'a str, &'a str);

/// What makes an endpoint the same as before: its address, and whose it is.
fn identity(endpoint: &Endpoint) -> Identity<'_> {
    let target = endpoint
        .target_ref
        .as_ref()
        .and_then(|target| target.uid.as_deref());
    let address = endpoint.addresses.first().map_or("", String::as_str);
    (address, target.unwrap_or_default())
}

/// A port, in a form that can be compared.
pub(super) type PortKey = (String, i32, String, String);

/// Ports without their order.
pub(super) fn port_keys(ports: &[EndpointPort]) -> Vec<PortKey> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let keys = ports.iter().map(|port| {
        (
            text(&port.name),
            port.port.unwrap_or(-1),
            port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            text(&port.app_protocol),
        )
    });
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests;
