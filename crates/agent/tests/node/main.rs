//! The agent on a node of the test's own: a network namespace with an uplink. Needs root.

mod api;
mod attach;
mod chain;
mod first_packet;
mod kills;
mod run;
mod support;
