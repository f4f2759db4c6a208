//! Which node announces a load balancer's address.
//!
//! ```text
//! Leases, one a node ─► alive ─┐
//! this node's own labels ──────┤
//! Services of type LoadBalancer ┼─► table ─► addresses that this node announces ─► the agent's link
//! their local endpoints ───────┘        └─► the Service's condition, Events
//! ```
//!
//! Every node renews a Lease of its own and decides for itself, by the same rule from the same objects; who
//! announces a Service already goes on as long as it is alive. A node whose own renewals don't arrive knows that
//! the API is away, not the others, and goes on as before. Nothing here touches the kernel.

mod alive;
mod endpoints;
mod health;
mod lease;
mod run;
mod service;
mod state;
mod table;
mod tell;

use std::time::Duration;

pub use run::{Answering, Settings, Wanted, run};

/// How often a node renews its Lease.
const RENEW: Duration = Duration::from_millis(600);
/// A Lease that isn't renewed for this long is a dead node's,
const EXPIRE: Duration = Duration::from_secs(2);
/// unless its kernel answers: then its agent is slow, or gone, and what it announces goes on. That ends before the
/// kernel lets go of the addresses, which are held for longer.
const ANSWERED: Duration = Duration::from_secs(5);
/// Where the Leases are, and how they are found.
const NAMESPACE: &str = "kube-system";
const LABEL: &str = "ripstop.dev/announcer";
/// The condition of a Service that names its announcer.
const CONDITION: &str = "ripstop.dev/Announced";

/// How the names of the Leases begin.
const PREFIX: &str = "announcer-";
/// Nodes with this label, whatever its value, announce nothing.
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The name of a node's Lease.
fn lease_name(node: &str) -> String {
    format!("{PREFIX}{node}")
}
