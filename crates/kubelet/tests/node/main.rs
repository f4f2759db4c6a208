//! The kubelet with a real containerd, against the real API server, in
//! namespaces of its own. Needs root, containerd, runc and a static busybox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod basics;
mod image;
mod lab;
mod lifecycle;
mod lost;
mod registry;
mod registry_faults;
mod restarts;
mod streams;
mod volumes;
