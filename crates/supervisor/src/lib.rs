//! The embedded cluster as processes: namespaces as nodes, containerd, server and agents, restarted when they die.
