//! What the network part wants of the kernel, as a trait: [`NodeKernel`](super::NodeKernel) does
//! it, tests play it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;

use kernel::{Applied, Error};
use kernel::{PolicyCounts, PolicyEvents};
use model::NodeFacts;
use plan::{NodePlan, Part, PartId, PolicyChange, PolicyTables};

use super::Services;

/// The kernel of one node.
pub trait DataPlane: Send + Sync + 'static {
    /// What the kernel is like. The link that carries the first of `addresses` is the uplink.
    fn facts(
        &self,
        node: &str,
        addresses: &[IpAddr],
    ) -> impl Future<Output = Result<NodeFacts, Error>> + Send;

    /// What the kernel knows of the paths to nodes' addresses: the largest packets of those that
    /// carry less than the link.
    fn path_mtus(
        &self,
        addresses: &BTreeSet<IpAddr>,
    ) -> impl Future<Output = Result<BTreeMap<IpAddr, u32>, Error>> + Send;

    /// Has the kernel find out what the paths carry: a datagram of `mtu` bytes to each address.
    fn probe_paths(&self, addresses: &BTreeSet<IpAddr>, port: u16, mtu: u32);

    /// Who of those that were asked has answered since the last time.
    fn answers(&self) -> BTreeSet<IpAddr>;

    /// Asks other nodes' kernels for a sign of life.
    fn ask(&self, addresses: &BTreeSet<IpAddr>);

    /// The names of our pods' links that are there.
    fn pod_links(&self) -> impl Future<Output = Result<BTreeSet<String>, Error>> + Send;

    /// Makes the kernel hold the plan and nothing else of ours, writing only what differs.
    fn apply(&self, plan: &NodePlan) -> impl Future<Output = Result<Applied, Error>> + Send;

    /// Makes the kernel hold these Services, writing only what differs. Services are no part of plans
    /// that are applied.
    fn apply_services(&self, services: &Services) -> impl Future<Output = Result<Applied, Error>> + Send;

    /// Counts anew the connections that are translated on the way, for who picks by the fewest.
    fn count_translated(&self) -> impl Future<Output = Result<usize, Error>> + Send;

    /// Forgets connections that wait for endpoints which are gone, and were seen to do so the last time. Says how
    /// many.
    fn forget_unanswered(&self) -> impl Future<Output = Result<usize, Error>> + Send;

    /// Lets the sockets of these pods, by the node's ends of their links, see Services' addresses as they
    /// are, and translates for all others'. Says how many writes that took.
    fn set_untranslated(&self, links: &BTreeSet<String>)
    -> impl Future<Output = Result<usize, Error>> + Send;

    /// Makes the kernel's policies these, writing only what differs.
    fn apply_policies(&self, tables: &PolicyTables) -> impl Future<Output = Result<usize, Error>> + Send;

    /// Writes what changes in the policies, so that each step is safe.
    fn change_policies(&self, change: &PolicyChange) -> impl Future<Output = Result<usize, Error>> + Send;

    /// The policies that are in force; none before any are.
    fn policies(&self) -> impl Future<Output = Result<Option<PolicyTables>, Error>> + Send;

    /// What the programs tell of conversations; none if another reads it.
    fn policy_events(&self) -> impl Future<Output = Result<Option<PolicyEvents>, Error>> + Send;

    /// Has beginnings and ends told, too, not only drops.
    fn follow_flows(&self, on: bool) -> impl Future<Output = Result<(), Error>> + Send;

    /// What policies have done.
    fn policy_counts(&self) -> impl Future<Output = Result<PolicyCounts, Error>> + Send;

    /// Writes one part, whole or not at all, and says how many writes that took. What is there
    /// already isn't written again.
    fn apply_part(&self, id: &PartId, part: &Part) -> impl Future<Output = Result<usize, Error>> + Send;

    /// Removes one part. What isn't there is no error.
    fn remove_part(&self, id: &PartId, part: &Part) -> impl Future<Output = Result<usize, Error>> + Send;

    /// What the kernel lacks of a part, or holds differently, for people; nothing if all is well.
    fn missing(&self, part: &Part) -> impl Future<Output = Result<Vec<String>, Error>> + Send;
}
