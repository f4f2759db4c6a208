//! The controllers of the embedded control plane, each a client of the public API.
