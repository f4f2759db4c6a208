//! Ids: digests of what they stand for. Nothing is allocated, so an agent that starts anew has the
//! same ones.

use std::collections::BTreeSet;
use std::fmt;

use model::{Direction, NamedPort, NamespacedName};
use sha2::{Digest, Sha256};

use super::term::TermId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
    };
}

id! {
    /// What holds for a pod in one direction. The lowest bits say which looks at the rules can find
    /// something.
    SetId
}
id! {
    /// What an address is to the policies of a node.
    ClassId
}
id! {
    /// A rule of a policy.
    RuleId
}

impl SetId {
    /// Of a pod that no policy isolates in that direction.
    pub const FREE: SetId = SetId(0);
    /// The bits that are no digest.
    pub const HINTS: u64 = 0xff;
    /// Some rule is for any peer: [`ClassId::ANY`].
    pub const ANY_PEER: u64 = 1 << 0;
    /// Some rule is for peers of a class.
    pub const PEERS: u64 = 1 << 1;
    /// Some rule is for everything, whatever its protocol.
    pub const EVERYTHING: u64 = 1 << 2;
    /// Some rule is for every port of a protocol.
    pub const PROTOCOLS: u64 = 1 << 3;
    /// Some rule is for a port.
    pub const PORTS: u64 = 1 << 4;
    /// Some rule is for a range of ports.
    pub const RANGES: u64 = 1 << 5;

    /// Whether no policy isolates.
    pub fn is_free(self) -> bool {
        self == SetId::FREE
    }

    /// Whether all of these hints are given.
    pub fn hints(self, bits: u64) -> bool {
        self.0 & bits == bits
    }
}

impl ClassId {
    /// Of what matches nothing; in rules: of any peer.
    pub const ANY: ClassId = ClassId(0);
}

/// How ids are made. A test makes them short, so that they collide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digests {
    pub(super) mask: u64,
}

impl Default for Digests {
    fn default() -> Digests {
        Digests { mask: u64::MAX }
    }
}

impl Digests {
    /// An id other than zero, for what was written down.
    fn id(self, text: Canonical) -> u64 {
        (text.finish() & self.mask).max(1)
    }

    pub(super) fn term(self, text: Canonical) -> TermId {
        TermId(self.id(text))
    }

    pub(super) fn class(self, terms: &BTreeSet<TermId>, ports: &BTreeSet<NamedPort>) -> ClassId {
        let mut text = Canonical::new("class");
        text.number(terms.len() as u64);
        for term in terms {
            text.number(term.0);
        }
        for port in ports {
            text.text(&port.name)
                .number(port.protocol.number().into())
                .number(port.port.into());
        }
        ClassId(self.id(text))
    }

    pub(super) fn set(self, text: Canonical, hints: u64) -> SetId {
        let shift = SetId::HINTS.count_ones();
        let digest = self.id(text) << shift;
        // All that is left of it may have been shifted out.
        SetId(digest.max(1 << shift) | hints)
    }
}

/// A rule's id: it doesn't depend on what the rule says.
pub(super) fn rule(policy: &NamespacedName, direction: Direction, index: usize) -> RuleId {
    let mut text = Canonical::new("rule");
    text.name(policy).direction(direction).number(index as u64);
    RuleId(text.finish().max(1))
}

/// What an id stands for, written so that no two things are written alike.
pub(super) struct Canonical(Sha256);

impl Canonical {
    pub(super) fn new(kind: &str) -> Canonical {
        let mut text = Canonical(Sha256::new());
        text.text(kind);
        text
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Canonical {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Canonical {
        self.0.update(number.to_be_bytes());
        self
    }

    pub(super) fn name(&mut self, name: &NamespacedName) -> &mut Canonical {
        self.text(&name.namespace).text(&name.name)
    }

    pub(super) fn direction(&mut self, direction: Direction) -> &mut Canonical {
        self.number(match direction {
            Direction::Ingress => 0,
            Direction::Egress => 1,
        })
    }

    fn finish(self) -> u64 {
        let digest = self.0.finalize();
        let first = digest.first_chunk::<8>().expect("a digest has 32 bytes");
        u64::from_be_bytes(*first)
    }
}
