//! The pure planner: [`Snapshot`] and [`NodeFacts`] in, [`NodePlan`] out; and the tracer that walks
//! a packet through the plans of the nodes involved.
//!
//! ```text
//!   Snapshot ─┐              ┌─► Display            what reviewers and snapshots read
//!             ├─ plan() ─► NodePlan ─► NodePlan::diff   ─► crate kernel
//!   NodeFacts ┘              └─► trace()            where a packet would go, and why
//! ```
//!
//! [`plan`] is total: whatever the cluster's objects say there is a plan, and what couldn't be
//! planned is a note in it. A [`NodePlan`] is a map of independent [`Part`]s, each a set of
//! [`Object`]s that the kernel is to hold; the order of both is the order of writes.

mod attachment;
mod base;
mod blocks;
mod host_port;
mod object;
mod part;
mod peer;
mod policy;
mod service;
mod shaper;
pub mod trace;
mod tunnel;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{NodeFacts, Snapshot};

pub use attachment::{GATEWAY_V4, GATEWAY_V6, NODE_MAC};
pub use base::{TABLE, elements, table};
pub use object::{
    Element, Endpoint, Fdb, Forward, Identity, LOOPBACK, LoopbackPort, Mapping, Neighbour, NextHop,
    NodeAddress, Object, PodEnd, Route, Sysctl, Tunnel, Veth,
};
pub use part::{Change, NodePlan, Part, PartId};
pub use policy::{
    ClassId, Delta, Isolation, PolicyChange, PolicyIndex, PolicyPlan, PolicyTables, RangeKey, RuleId,
    RuleKey, RuleName, SetId, SetName,
};
pub use service::{
    BackendSet, Frontend, Scope, ServiceAddress, ServiceContext, ServicePort, ServicePortId, any_address,
    backends_map, plan_service,
};
pub use shaper::Shaper;
pub use trace::{Denial, Hop, Passed, Question, Spot, Trace, Verdict, trace, trace_with_policies};
pub use way::pod_mtu;

use blocks::Blocks;
use tunnel::Overlay;
use way::Ways;

/// What the kernel of the node that `facts` are about is to hold.
pub fn plan(snapshot: &Snapshot, facts: &NodeFacts) -> NodePlan {
    let blocks = Blocks::new(snapshot);
    let ways = Ways {
        snapshot,
        facts,
        blocks: &blocks,
    };
    let overlay = Overlay::new(&ways);
    let mut parts = BTreeMap::from([(PartId::Base, base::base(&ways, &overlay))]);
    for (name, node) in snapshot.nodes.iter().filter(|(name, _)| **name != facts.name) {
        parts.insert(
            PartId::Peer(name.clone()),
            peer::peer(name, node, &ways, &overlay),
        );
    }
    for (id, attachment) in &snapshot.attachments {
        parts.insert(
            PartId::Attachment(id.clone()),
            attachment::attachment(id, attachment, facts),
        );
    }
    let context = ServiceContext::with_blocks(snapshot, facts, &blocks);
    for (name, service) in &snapshot.services {
        parts.insert(
            PartId::Service(name.clone()),
            plan_service(name, service, &context),
        );
    }
    resolve(&mut parts);
    service::resolve(&mut parts);
    let addresses = snapshot
        .nodes
        .get(&facts.name)
        .map(|node| node.addresses.clone())
        .unwrap_or_default();
    NodePlan {
        node: facts.name.clone(),
        addresses,
        uplink: facts.uplink.clone(),
        parts,
    }
}

/// The addresses of the nodes that pods' packets are sent to inside tunnels: the paths to them decide
/// how large those packets may be.
pub fn far_ends(snapshot: &Snapshot, facts: &NodeFacts) -> BTreeSet<IpAddr> {
    let ways = Ways {
        snapshot,
        facts,
        blocks: &Blocks::new(snapshot),
    };
    ways.far_ends().map(|end| end.remote).collect()
}

/// Where two parts want the same thing differently (two pods with one address, say) the first one
/// has it, so that the plan means one state of the kernel.
fn resolve(parts: &mut BTreeMap<PartId, Part>) {
    let mut taken: BTreeMap<Identity, (PartId, Object)> = BTreeMap::new();
    for (id, part) in parts {
        let mut notes = Vec::new();
        part.objects.retain(|object| match taken.get(&object.identity()) {
            Some((owner, held)) if held != object => {
                notes.push(format!("{object} is left out: {owner} has {held}"));
                false
            }
            Some(_) => true,
            None => {
                taken.insert(object.identity(), (id.clone(), object.clone()));
                true
            }
        });
        part.notes.extend(notes);
    }
}

/// One attachment's part alone: what ADD needs, without planning the whole node.
pub fn plan_attachment(id: &model::AttachmentId, attachment: &model::Attachment, facts: &NodeFacts) -> Part {
    attachment::attachment(id, attachment, facts)
}

/// The node's own address on its uplink, of the same family as `like`: the source of what the node
/// sends to pods.
fn own_address(facts: &NodeFacts, like: IpAddr) -> Option<IpAddr> {
    base::same_family(facts.uplink.addresses.iter().map(|net| net.addr()), like)
}
