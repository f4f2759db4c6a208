//! The CNI protocol as types, and the client with which the plugin reaches the agent.
//!
//! The plugin `ripstop-cni` decides nothing. It reads what the runtime says, hands it over as one
//! JSON [`wire::Request`], and prints what comes back; the network's only mind is the agent.
//!
//! ```text
//! containerd ──exec, CNI_* and stdin──► ripstop-cni ──wire::Request──► agent
//!            ◄──stdout, exit code─────              ◄─wire::Response──
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`call`] | `CNI_*` variables: the command and its arguments, checked |
//! | [`config`] | the network configuration on stdin |
//! | [`runtime`] | what the runtime says about one container: port mappings, rates |
//! | [`result`] | results, in the shape that each CNI version wants |
//! | [`error`] | errors, with the specification's codes |
//! | [`wire`] | plugin ↔ agent: one request, one response, one connection |
//! | [`client`] | the plugin's side of it: patience, resending, deadlines |

pub mod call;
pub mod client;
pub mod config;
pub mod error;
pub mod result;
pub mod runtime;
pub mod version;
pub mod wire;

pub use call::{Call, Command};
pub use config::NetworkConfig;
pub use error::{Code, Error};
pub use result::{AddResult, Interface, Ip, Route};
pub use runtime::{Bandwidth, PortMapping};
pub use version::Version;
