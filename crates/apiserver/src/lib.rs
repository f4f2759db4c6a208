//! The embedded, Kubernetes-compatible API server: generic and table-driven over the store.
