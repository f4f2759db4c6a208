//! Addresses of Services of type LoadBalancer, from pools.
//!
//! ```text
//! pools, Services' statuses ─► table (who has what) ─► status.loadBalancer.ingress, Events
//! ```
//!
//! Nothing is remembered beside the Services' statuses. Who announces an address on the network is the agents'
//! matter.

mod driver;
mod range;
mod table;
mod wish;

pub(crate) use driver::Controller;
pub use range::{AddressRange, ParseRangeError};
pub use table::Pool;

/// The domain of our load-balancer classes: `spec.loadBalancerClass` is unset, or begins with this.
pub(crate) const CLASS_PREFIX: &str = "ripstop.dev/";
/// Chosen addresses, one a family, separated by commas.
pub(crate) const ADDRESSES: &str = "ripstop.dev/load-balancer-ips";
