//! The pod loop of a node: containers through CRI, volumes, probes, status, logs and exec.
