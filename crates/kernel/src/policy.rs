//! Policies into the kernel, and what the programs tell of them.
//!
//! What is written, and in which order, is [`plan::PolicyChange`]'s matter: each step of it is safe. A pod's
//! isolation is to be there before the pod's endpoint is, and to go after it: an endpoint without one is
//! kept from everything, as soon as policies are in force at all.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use aya::maps::{MapData, RingBuf};
use bpf_abi::policy::Event;
use plan::{PolicyChange, PolicyTables, RuleId, SetId};

use crate::bpf::Bpf;
use crate::{Kernel, Result};

/// What policies have done since the programs were first loaded here. What is forgotten of it, the longest
/// unused first once there is too much, begins at zero again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyCounts {
    /// How many conversations each rule has allowed.
    pub allowed: Vec<(RuleId, u64)>,
    /// How many packets each set has denied.
    pub denied: Vec<(SetId, u64)>,
    /// How many events were never told: too many at once, or nobody read them.
    pub lost: u64,
}

impl Kernel {
    /// Makes the kernel hold these policies and no others, writing only what differs, and puts them in
    /// force. Says how much was written.
    ///
    /// An agent calls it before it applies its plan for the first time: another version's programs, which
    /// that puts on the links, may have empty tables.
    pub fn apply_policies(&self, wanted: &PolicyTables) -> Result<usize> {
        let bpf = self.bpf.get()?;
        let change = PolicyTables::diff(&bpf.policies().read()?, wanted);
        change_policies(&bpf, &change)
    }

    /// Writes a change of what the kernel holds; says how much was written. If it fails only
    /// [`Kernel::apply_policies`] knows what is missing. Of policies that aren't in force yet it changes
    /// what will be.
    pub fn change_policies(&self, change: &PolicyChange) -> Result<usize> {
        change_policies(&*self.bpf.get()?, change)
    }

    /// The policies that are in force; none before any are.
    pub fn policies(&self) -> Result<Option<PolicyTables>> {
        let bpf = self.bpf.get()?;
        let policies = bpf.policies();
        match policies.enforced()? {
            true => policies.read().map(Some),
            false => Ok(None),
        }
    }

    /// What the programs tell. There's one reader at a time: none if there is one.
    pub fn policy_events(&self) -> Result<Option<PolicyEvents>> {
        let bpf = self.bpf.get()?;
        let events = bpf.policies().take_events();
        Ok(events.map(|events| PolicyEvents {
            events: Some(events),
            bpf,
        }))
    }

    /// Has the programs tell beginnings and ends of conversations, too, not only what they drop.
    pub fn follow_flows(&self, on: bool) -> Result<()> {
        self.bpf.get()?.policies().follow(on)
    }

    /// What policies have done.
    pub fn policy_counts(&self) -> Result<PolicyCounts> {
        let bpf = self.bpf.get()?;
        let policies = bpf.policies();
        Ok(PolicyCounts {
            allowed: policies.allowed()?,
            denied: policies.denied()?,
            lost: policies.lost()?,
        })
    }
}

fn change_policies(bpf: &Bpf, change: &PolicyChange) -> Result<usize> {
    let policies = bpf.policies();
    policies.put_rules(&change.rules.put)?;
    policies.put_ranges(&change.ranges.put)?;
    policies.put_classes(&change.classes.put)?;
    policies.put_blocks(&change.blocks.put)?;
    policies.put_isolation(&change.isolation.put)?;
    let is_new = policies.enforce()?;
    if !change.is_empty() || is_new {
        bpf.renew()?;
    }
    policies.remove_isolation(&change.isolation.removed)?;
    policies.remove_classes(&change.classes.removed)?;
    policies.remove_blocks(&change.blocks.removed)?;
    policies.remove_rules(&change.rules.removed)?;
    policies.remove_ranges(&change.ranges.removed)?;
    Ok(change.len() + usize::from(is_new))
}

/// What the programs tell, oldest first. Its descriptor is readable as long as there is something.
///
/// What isn't read in time is lost, and counted ([`PolicyCounts::lost`]).
pub struct PolicyEvents {
    /// There until it's dropped.
    events: Option<RingBuf<MapData>>,
    bpf: Arc<Bpf>,
}

impl std::fmt::Debug for PolicyEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyEvents").finish_non_exhaustive()
    }
}

impl PolicyEvents {
    /// The next one; none if everything is read.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let item = self.events.as_mut()?.next()?;
            // Another version's programs may tell something else.
            if item.len() == size_of::<Event>() {
                // SAFETY: there are as many bytes, and any of them make numbers.
                return Some(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
            }
        }
    }
}

impl AsRawFd for PolicyEvents {
    fn as_raw_fd(&self) -> RawFd {
        let events = self.events.as_ref();
        events.expect("it's there until it's dropped").as_raw_fd()
    }
}

impl Drop for PolicyEvents {
    fn drop(&mut self) {
        if let Some(events) = self.events.take() {
            self.bpf.policies().give_events(events);
        }
    }
}
