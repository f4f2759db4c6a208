//! The DNS as clients see it: over real sockets, with servers of the tests' own behind it.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod at_once;
mod completion;
mod forwarding;
mod lab;
mod serving;
mod specification;
