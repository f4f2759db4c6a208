//! A client of the container runtime interface (CRI), `runtime.v1`.
//!
//! The interface is gRPC over a unix socket: one service for sandboxes (a
//! pod's namespaces) and containers, one for images. The messages are written
//! out by hand in [`message`], with the interface's own names and field
//! numbers, so that building this needs no `protoc`. What a node has no use
//! for (Windows, SELinux, checkpoints) is left out; protobuf skips unknown
//! fields, so newer runtimes are understood.
//!
//! ```no_run
//! # async fn demo() -> Result<(), cri::Error> {
//! let runtime = cri::Client::new("/run/containerd/containerd.sock");
//! println!("{}", runtime.version().await?.runtime_version);
//! for sandbox in runtime.list_pod_sandbox(Default::default()).await? {
//!     println!("{} {:?}", sandbox.id, sandbox.state());
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod image;
pub mod message;
mod runtime;
mod task;

pub use client::Client;
pub use error::Error;
