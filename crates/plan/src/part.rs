//! A node's plan: independent parts, each a set of objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use model::{AttachmentId, ServiceName, Uplink};

use crate::object::by_identity;
use crate::{Identity, Object};

/// Everything the kernel of one node is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// The node's name.
    pub node: String,
    /// The node's own addresses.
    pub addresses: Vec<IpAddr>,
    /// The link that leads to the other nodes.
    pub uplink: Uplink,
    /// The parts, in the order of writes.
    pub parts: BTreeMap<PartId, Part>,
}

/// Which part of a plan. The order is the order of writes: the base before what relies on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartId {
    /// What the node needs to forward at all.
    Base,
    /// What leads to another node's pods, by the node's name.
    Peer(String),
    /// A pod of this node.
    Attachment(AttachmentId),
    /// A Service.
    Service(ServiceName),
}

/// An independent part of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// What it's about, for people: a pod's name.
    pub title: String,
    /// What the kernel is to hold, in the order of writes.
    pub objects: BTreeSet<Object>,
    /// What could not be planned, and why.
    pub notes: Vec<String>,
}

impl NodePlan {
    /// Every object of every part, in the order of writes.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.parts.values().flat_map(|part| &part.objects)
    }

    /// What leads from one plan to another: first everything new or different in the order of
    /// writes, then removals in reverse. A thing that only moved from one part to another isn't
    /// touched.
    pub fn diff(old: &NodePlan, new: &NodePlan) -> Vec<Change> {
        let (held, wanted) = (by_identity(old.objects()), by_identity(new.objects()));
        let mut changes = Vec::new();
        // What two parts share, an element say, is written and removed once.
        let mut seen = BTreeSet::new();
        for (id, part) in &new.parts {
            for object in &part.objects {
                let identity = object.identity();
                if held.get(&identity) != Some(&object) && seen.insert(identity) {
                    changes.push(Change::Put {
                        part: id.clone(),
                        object: object.clone(),
                    });
                }
            }
        }
        for (id, part) in old.parts.iter().rev() {
            for object in part.objects.iter().rev() {
                let identity = object.identity();
                if !wanted.contains_key(&identity) && seen.insert(identity) {
                    changes.push(Change::Remove {
                        part: id.clone(),
                        object: object.clone(),
                    });
                }
            }
        }
        changes
    }
}

/// A step from one plan to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Write this, over whatever is there of the same [`Identity`].
    Put {
        /// The part that it belongs to.
        part: PartId,
        /// What to write.
        object: Object,
    },
    /// Remove exactly this.
    Remove {
        /// The part that it belonged to.
        part: PartId,
        /// What to remove.
        object: Object,
    },
}

impl Change {
    /// The part that it's about.
    pub fn part(&self) -> &PartId {
        match self {
            Change::Put { part, .. } | Change::Remove { part, .. } => part,
        }
    }

    /// The object that it's about.
    pub fn object(&self) -> &Object {
        match self {
            Change::Put { object, .. } | Change::Remove { object, .. } => object,
        }
    }

    /// What it's about.
    pub fn identity(&self) -> Identity {
        self.object().identity()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Put { object, .. } => write!(f, "+ {object}"),
            // What is below the first line goes with it.
            Change::Remove { object, .. } => {
                write!(f, "- {}", object.to_string().lines().next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Display for NodePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (id, part)) in self.parts.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n" };
            match id {
                PartId::Base => writeln!(f, "{gap}node {}", self.node)?,
                PartId::Peer(_) | PartId::Service(_) => writeln!(f, "{gap}{id}")?,
                PartId::Attachment(_) => writeln!(f, "{gap}{id} of {}", part.title)?,
            }
            write!(f, "{part}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartId::Base => f.write_str("base"),
            PartId::Peer(node) => write!(f, "peer {node}"),
            PartId::Attachment(id) => write!(f, "attachment {id}"),
            PartId::Service(name) => write!(f, "service {name}"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for object in &self.objects {
            for line in object.to_string().lines() {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}
