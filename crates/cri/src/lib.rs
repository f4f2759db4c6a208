//! A client of the container runtime interface, v1.
