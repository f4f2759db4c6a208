//! What the network part wants of the kernel, as a trait: crate `kernel` does it, tests play it.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;

use kernel::Error;
use model::NodeFacts;
use plan::{Change, NodePlan, Part};

/// The kernel of one node.
pub trait DataPlane: Send + Sync + 'static {
    /// What the kernel is like. The link that carries the first of `addresses` is the uplink.
    fn facts(
        &self,
        node: &str,
        addresses: &[IpAddr],
    ) -> impl Future<Output = Result<NodeFacts, Error>> + Send;

    /// The names of our pods' links that are there.
    fn pod_links(&self) -> impl Future<Output = Result<BTreeSet<String>, Error>> + Send;

    /// Makes the kernel hold the plan, whatever it holds now, and nothing else of ours. Says how
    /// many writes that took.
    fn converge(&self, plan: &NodePlan) -> impl Future<Output = Result<usize, Error>> + Send;

    /// Writes changes in their order. Writing what is there already and removing what isn't are no
    /// errors. Says how many writes that took.
    fn apply(&self, changes: &[Change]) -> impl Future<Output = Result<usize, Error>> + Send;

    /// What the kernel lacks of a part, or holds differently, for people; nothing if all is well.
    fn missing(&self, part: &Part) -> impl Future<Output = Result<Vec<String>, Error>> + Send;
}
