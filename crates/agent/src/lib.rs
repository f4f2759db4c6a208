//! The node agent: watches the API, plans, applies; serves the CNI plugin; runs the kubelet part in embedded clusters.

pub mod ipam;
