//! Addresses of Services of type LoadBalancer, from pools.
//!
//! ```text
//! LoadBalancerPools ─┐
//! Services' statuses ┼─► table (who has what) ─┬─► status.loadBalancer.ingress, Events
//! nodes' addresses ──┘                         └─► the pools' statuses
//! ```
//!
//! Nothing is remembered beside the Services' statuses. Who announces an address on the network is the agents'
//! matter. All of it works with the public API, and the rights in `deploy/load-balancer-rbac.yaml`.

mod driver;
pub(crate) mod fuzz;
mod install;
mod object;
mod pool;
mod range;
mod start;
mod table;
mod usage;
mod wish;

pub use range::{AddressRange, ParseRangeError};
pub(crate) use start::Balancer;

/// The ServiceAccount whose rights are used, in `kube-system`.
pub(crate) const ACCOUNT: &str = "ripstop-load-balancer";
/// The domain of our load-balancer classes: `spec.loadBalancerClass` is unset, or begins with this.
pub(crate) const CLASS_PREFIX: &str = "ripstop.dev/";
/// Chosen addresses, one a family, separated by commas.
pub(crate) const ADDRESSES: &str = "ripstop.dev/load-balancer-ips";
/// A chosen pool.
pub(crate) const POOL: &str = "ripstop.dev/load-balancer-pool";
