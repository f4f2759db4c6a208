//! The one crate that touches the kernel: netlink, namespaces, mounts, cgroups, sysctls; observe, diff and apply.
