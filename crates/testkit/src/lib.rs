//! Fixtures for tests: namespaces that clean up, conditions instead of sleeps.
//!
//! ```text
//!            TestNs "switch" ── bridge
//!        ┌────────┼────────┐
//!     node a   node b   node c      each a TestNs, with eth0 on the bridge
//! ```
//!
//! Everything here panics with a clear message when it can't do its job: a test that can't run must
//! fail, never pass silently.

mod capture;
mod disk;
mod frame;
mod kubectl;
mod lan;
mod netns;
mod ping;
mod registry;
mod router;
mod talk;
mod wait;

pub use capture::Capture;
pub use disk::SmallDisk;
pub use frame::send_frames;
pub use kubectl::{Kubectl, WhichKubectl};
pub use lan::{Lan, LanNode};
pub use netns::{TestNs, unique};
pub use ping::{Pong, icmp6_socket, ping, ping_whole};
pub use registry::{Registry, RegistryImage, Trouble};
pub use router::{PREFIX, ROUTER, advertise, believes};
pub use talk::{Echo, ask};
pub use wait::{eventually, eventually_async};
