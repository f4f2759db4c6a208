//! The table of kinds: what the API server must know about each built-in Kubernetes kind.
//!
//! A kind is an entry ([`Kind`]), not a file of handlers. The API server is generic over this table: it
//! looks an entry up by group, version and plural, and asks it to decode, default, validate and print.
//! Everything here is pure: JSON in, JSON out, no clock and no store.
//!
//! ```text
//! request body ─► decode ─► default ─► validate(new, old) ─► store
//!                                      object ─► row/columns, fields ─► kubectl get, field selectors
//! ```

mod decode;
mod json;
mod kind;
mod table;

// One file a kind: its entry in the table.
mod configmap;
mod deployment;
mod endpoints;
mod event;
mod lease;
mod namespace;
mod node;
mod pod;
mod replicaset;
mod secret;
mod service;
mod serviceaccount;

// Defaults.
mod admission;
mod pod_defaults;
mod pod_quantities;
mod qos;

// Validation.
mod addresses;
mod config_validation;
mod container_validation;
mod deployment_validation;
mod endpoints_validation;
mod env_validation;
mod errors;
mod meta_validation;
mod names;
mod node_validation;
mod pod_update_validation;
mod pod_validation;
mod probe_validation;
mod replicaset_validation;
mod resource_validation;
mod scheduling_validation;
mod selector_validation;
mod service_validation;
mod volume_validation;
mod workload_validation;

// What people see.
mod columns;
mod labels;
mod pod_columns;
mod quantity;

pub use columns::human_duration;
pub use kind::{Column, DecodeError, Decoded, FieldError, FieldText, Kind, Reason, Scale};
pub use labels::selects;
pub use qos::qos_class;
pub use quantity::{NotAQuantity, Quantity};
pub use table::{all, find, find_kind};
