//! The policies of a node, kept up as objects come, change and go.
//!
//! ```text
//!   policies ─► those that select a pod of this node ─► sets ──────────┐
//!                          └─► terms in use                            ├─► rules
//!   pods, namespaces ─► profiles × terms ─► classes of addresses ──────┘
//! ```
//!
//! Nothing is worked out until it's asked for: a thousand policies that come at once cost what they
//! cost together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{
    AttachmentId, Labels, NamespacedName, PodRef, Policy, PolicyAttachment, PolicyPod, PolicySnapshot,
};

use super::compile::Compiled;
use super::id::Digests;
use super::locals::Locals;
use super::peers::Peers;
use super::profile::Profile;
use super::rules::Rules;
use super::tables::Tracked;
use super::{Isolation, PolicyChange, PolicyPlan, PolicyTables, RuleId, RuleName, SetId, SetName};

/// The policies of one node.
#[derive(Debug, Default)]
pub struct PolicyIndex {
    pub(super) digests: Digests,
    node: String,
    policies: BTreeMap<NamespacedName, Compiled>,
    namespaces: BTreeMap<String, Labels>,
    pods: BTreeMap<NamespacedName, Arc<PolicyPod>>,
    attachments: BTreeMap<AttachmentId, PolicyAttachment>,
    /// Of each pod.
    attached: BTreeMap<NamespacedName, BTreeSet<AttachmentId>>,
    pending: Pending,
    locals: Locals,
    peers: Peers,
    rules: Rules,
    isolation: Tracked<IpAddr, Isolation>,
}

/// What has come since it was worked out last.
#[derive(Debug, Default)]
struct Pending {
    policies: BTreeMap<NamespacedName, Option<Arc<Policy>>>,
    namespaces: BTreeSet<String>,
    pods: BTreeSet<NamespacedName>,
    attachments: BTreeSet<AttachmentId>,
}

/// Whose an attachment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// No pod's of the cluster.
    Nobody,
    /// That of a pod that the API doesn't have, or doesn't have any more.
    Unknown,
    Pod(Arc<Profile>),
}

impl PolicyIndex {
    /// Of a node without pods.
    pub fn new(node: impl Into<String>) -> PolicyIndex {
        PolicyIndex {
            node: node.into(),
            ..PolicyIndex::default()
        }
    }

    /// Of a node and a cluster as they are.
    pub fn of(snapshot: &PolicySnapshot) -> PolicyIndex {
        let mut index = PolicyIndex::new(snapshot.node.as_str());
        index.load(snapshot);
        index
    }

    pub(super) fn load(&mut self, snapshot: &PolicySnapshot) {
        for (name, policy) in &snapshot.policies {
            self.set_policy(name.clone(), policy.clone());
        }
        for (name, labels) in &snapshot.namespaces {
            self.set_namespace(name.clone(), labels.clone());
        }
        for (name, pod) in &snapshot.pods {
            self.set_pod(name.clone(), pod.clone());
        }
        for (id, attachment) in &snapshot.attachments {
            self.attach(id.clone(), attachment.clone());
        }
        self.set_node_local(&snapshot.node_local);
    }

    /// A policy is there, or has changed.
    pub fn set_policy(&mut self, name: NamespacedName, policy: Arc<Policy>) {
        self.pending.policies.insert(name, Some(policy));
    }

    /// A policy is gone.
    pub fn remove_policy(&mut self, name: &NamespacedName) {
        self.pending.policies.insert(name.clone(), None);
    }

    /// A namespace is there, or its labels have changed.
    pub fn set_namespace(&mut self, name: String, labels: Labels) {
        if self.namespaces.get(&name) != Some(&labels) {
            self.pending.namespaces.insert(name.clone());
            self.namespaces.insert(name, labels);
        }
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.pending.namespaces.insert(name.to_owned());
        }
    }

    /// A pod is there, or has changed.
    pub fn set_pod(&mut self, name: NamespacedName, pod: Arc<PolicyPod>) {
        if self.pods.get(&name) != Some(&pod) {
            self.pending.pods.insert(name.clone());
            self.pods.insert(name, pod);
        }
    }

    /// A pod is gone. As long as it's attached it's kept from everything.
    pub fn remove_pod(&mut self, name: &NamespacedName) {
        if self.pods.remove(name).is_some() {
            self.pending.pods.insert(name.clone());
        }
    }

    /// A pod is being attached to this node, or its addresses have changed.
    pub fn attach(&mut self, id: AttachmentId, attachment: PolicyAttachment) {
        if self.attachments.get(&id) == Some(&attachment) {
            return;
        }
        self.detach(&id);
        let pod = pod_name(&attachment.pod);
        self.attached.entry(pod.clone()).or_default().insert(id.clone());
        self.pending.pods.insert(pod);
        self.pending.attachments.insert(id.clone());
        self.attachments.insert(id, attachment);
    }

    /// A pod has been detached.
    pub fn detach(&mut self, id: &AttachmentId) {
        let Some(attachment) = self.attachments.remove(id) else {
            return;
        };
        let pod = pod_name(&attachment.pod);
        if let Some(attached) = self.attached.get_mut(&pod) {
            attached.remove(id);
            if attached.is_empty() {
                self.attached.remove(&pod);
            }
        }
        self.pending.pods.insert(pod);
        self.pending.attachments.insert(id.clone());
    }

    /// Which addresses each node answers at itself: the cluster's DNS.
    pub fn set_node_local(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.peers.claim_dns(addresses.clone(), &self.namespaces);
    }

    /// Whether the API's object of a pod is here, and that of its namespace: without them nothing is
    /// known of it.
    pub fn knows(&self, pod: &PodRef) -> bool {
        let held = self.pods.get(&pod_name(pod));
        held.is_some_and(|held| is_same(pod, held)) && self.namespaces.contains_key(&pod.namespace)
    }

    /// What has changed in the kernel's tables since this was last asked.
    pub fn take_change(&mut self) -> PolicyChange {
        self.settle();
        PolicyChange {
            isolation: self.isolation.take(),
            classes: self.peers.classes.take(),
            blocks: self.peers.blocks.take(),
            rules: self.rules.rules.take(),
            ranges: self.rules.ranges.take(),
        }
    }

    /// All of it, with names.
    pub fn plan(&mut self) -> PolicyPlan {
        self.settle();
        PolicyPlan {
            node: self.node.clone(),
            tables: PolicyTables {
                isolation: self.isolation.now().clone(),
                classes: self.peers.classes.now().clone(),
                blocks: self.peers.blocks.now().clone(),
                rules: self.rules.rules.now().clone(),
                ranges: self.rules.ranges.now().clone(),
            },
            pods: self.pod_names(),
            sets: self
                .locals
                .sets()
                .map(|(id, set)| (id, SetName::of(set)))
                .collect(),
            classes: self.peers.names(),
            rules: self
                .locals
                .sets()
                .flat_map(|(_, set)| RuleName::of(set))
                .collect(),
            notes: self.notes(),
        }
    }

    /// The policies of a set that is in use.
    pub fn set_name(&self, id: SetId) -> Option<SetName> {
        self.locals.set_of(id).map(SetName::of)
    }

    /// The rule of that id, of the policies that select pods of this node.
    pub fn rule_name(&self, id: RuleId) -> Option<RuleName> {
        let mut names = self.locals.sets().flat_map(|(_, set)| RuleName::of(set));
        names.find_map(|(held, name)| (held == id).then_some(name))
    }

    fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for (name, policy) in pending.policies {
            self.settle_policy(name, policy);
        }
        let mut attachments = pending.attachments;
        for name in &pending.pods {
            attachments.extend(self.attached.get(name).into_iter().flatten().cloned());
            self.claim_pod(name);
        }
        let owners: BTreeMap<AttachmentId, Option<Owner>> = attachments
            .into_iter()
            .map(|id| {
                let owner = self.attachments.get(&id).map(|attachment| self.owner(attachment));
                (id, owner)
            })
            .collect();
        for (id, owner) in owners {
            self.settle_attachment(&id, owner);
        }
        self.locals.settle(&self.policies, self.digests);
        let terms = self.locals.terms.settle();
        self.peers.set_terms(&terms, &self.locals.terms, &self.namespaces);
        self.peers.set_ports(self.locals.ports.keys());
        self.peers.set_namespaces(&pending.namespaces, &self.namespaces);
        self.peers.settle(self.digests);
        self.isolate();
        self.rules.settle(&mut self.locals.in_use, &mut self.peers.in_use);
    }

    fn settle_policy(&mut self, name: NamespacedName, policy: Option<Arc<Policy>>) {
        let held = self.policies.get(&name).map(|held| &held.policy);
        if held == policy.as_ref() {
            return;
        }
        if let Some(old) = self.policies.remove(&name) {
            self.locals.deselect(&name, &old);
        }
        if let Some(policy) = policy {
            let compiled = Compiled::new(&name, policy, self.digests);
            self.locals.select(&name, &compiled);
            self.policies.insert(name, compiled);
        }
    }

    /// Whom an address belongs to, as the pod's object and its attachments say.
    fn claim_pod(&mut self, name: &NamespacedName) {
        let Some(pod) = self.pods.get(name).filter(|pod| !pod.host_network) else {
            self.peers.release_pod(name);
            return;
        };
        let ids = self.attached.get(name).into_iter().flatten();
        let own: Vec<&PolicyAttachment> = ids
            .filter_map(|id| self.attachments.get(id))
            .filter(|attachment| is_same(&attachment.pod, pod))
            .collect();
        let is_here = pod.node.as_ref() == Some(&self.node) || !own.is_empty();
        let addresses = if is_here {
            own.iter()
                .flat_map(|attachment| &attachment.addresses)
                .copied()
                .collect()
        } else {
            pod.addresses.iter().copied().collect()
        };
        let profile = Profile::new(name, pod);
        self.peers.claim_pod(name, profile, addresses, &self.namespaces);
    }

    fn owner(&self, attachment: &PolicyAttachment) -> Owner {
        if attachment.pod.name.is_empty() {
            return Owner::Nobody;
        }
        let name = pod_name(&attachment.pod);
        match self.pods.get(&name) {
            Some(pod) if is_same(&attachment.pod, pod) && !pod.host_network => {
                Owner::Pod(Arc::new(Profile::new(&name, pod)))
            }
            _ => Owner::Unknown,
        }
    }

    fn settle_attachment(&mut self, id: &AttachmentId, owner: Option<Owner>) {
        let addresses = self
            .attachments
            .get(id)
            .map(|attachment| attachment.addresses.clone());
        let addresses = addresses.unwrap_or_default();
        // Whatever others say of these addresses, they are of whom nothing is known.
        let unclaimed = matches!(owner, Some(Owner::Nobody | Owner::Unknown));
        let unclaimed = if unclaimed { addresses.as_slice() } else { &[] };
        self.peers.claim_unknown(id, unclaimed.iter().copied().collect());
        self.locals.set(id, owner, addresses, &self.policies);
    }

    fn isolate(&mut self) {
        for address in self.locals.take_touched() {
            self.isolation.set(address, self.locals.isolation(address));
        }
    }

    fn pod_names(&self) -> BTreeMap<IpAddr, String> {
        let attachments = self.attachments.values();
        let named = attachments.flat_map(|attachment| {
            let addresses = attachment.addresses.iter();
            addresses.map(|address| (*address, attachment.pod.to_string()))
        });
        named.collect()
    }

    fn notes(&self) -> Vec<String> {
        let unknown = self
            .attachments
            .iter()
            .filter(|(_, one)| self.owner(one) == Owner::Unknown);
        let unknown = unknown.map(|(id, one)| {
            format!(
                "pod {} is attached ({id}) and the API has no such pod: it's kept from everything",
                one.pod
            )
        });
        let shared = self.locals.shared().map(|address| {
            format!("{address} is the address of two attachments: both are kept from everything")
        });
        let collisions = self.locals.collisions().chain(self.peers.collisions());
        let collisions = collisions.map(|what| {
            format!("two {what} have one digest: both are taken for something that nothing is allowed by")
        });
        unknown.chain(shared).chain(collisions).collect()
    }
}

fn pod_name(pod: &PodRef) -> NamespacedName {
    NamespacedName::new(pod.namespace.as_str(), pod.name.as_str())
}

/// Whether an object is that of the pod, and not of another that had or has its name.
fn is_same(pod: &PodRef, object: &PolicyPod) -> bool {
    pod.uid.is_empty() || object.uid.is_empty() || pod.uid == object.uid
}
