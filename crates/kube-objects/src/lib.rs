//! Kubernetes objects to and from the model: pure functions, no client.
//!
//! What a cluster's API holds isn't always what its conventions promise. A part of an object that
//! can't be read is left out and named as a [`Problem`]; the rest of the object still counts, so
//! that one odd node doesn't take the network of the others with it.

mod node;
mod pod;
mod policy;
mod service;

pub use node::{Problem, node};
pub use pod::{PodProblem, is_finished, namespace, namespaced_name, pod};
pub use policy::{PolicyMistake, PolicyProblem, policy};
pub use service::{Names, SELECTOR, STRATEGY, ServiceProblem, service, service_name, slice, slice_owner};
