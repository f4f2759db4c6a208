//! containerd's configuration on a node.
//!
//! It is written in version 2 of the format, which containerd 1.6, 1.7 and 2.x read (2.x converts
//! it). Each node has its own root, state and socket; `/run/containerd`, where every shim puts its
//! socket whatever the configuration says, is private to the node's mount namespace.

use std::path::Path;

use crate::NodePaths;

/// The image of the process that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "localhost/ripstop/pause:1";

/// What nodes have no use for: each costs time at start, and some leave folders on the machine.
const UNUSED: [&str; 9] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// What the machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Whether processes may be protected from the out-of-memory killer (`CAP_SYS_RESOURCE`).
    /// Without it no sandbox starts unless containerd knows.
    pub may_lower_oom_score: bool,
    /// Whether AppArmor profiles can be loaded.
    pub apparmor: bool,
}

impl Machine {
    /// Looks.
    #[must_use]
    pub fn detect() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        let parser = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];
        Self {
            may_lower_oom_score: has_sys_resource(&status),
            apparmor: enabled.is_ok_and(|text| text.trim() == "Y")
                && parser.iter().any(|path| Path::new(path).exists()),
        }
    }
}

/// Reads `CapEff` of `/proc/PID/status`.
fn has_sys_resource(status: &str) -> bool {
    const CAP_SYS_RESOURCE: u64 = 24;
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    set.is_some_and(|set| set & (1 << CAP_SYS_RESOURCE) != 0)
}

/// The configuration of a node's containerd.
#[must_use]
pub fn config(node: &NodePaths, cni_bin: &Path, runc: &Path, machine: Machine) -> String {
    let quote = |path: &Path| toml_string(&path.to_string_lossy());
    let unused: Vec<String> = UNUSED
        .iter()
        .map(|name| format!("  {},\n", toml_string(name)))
        .collect();
    format!(
        r#"# Written by ripstop at every start of the node.
version = 2
root = {root}
state = {state}
disabled_plugins = [
{unused}]

[grpc]
address = {socket}

[ttrpc]
address = {ttrpc}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
disable_apparmor = {disable_apparmor}
restrict_oom_score_adj = {restrict_oom_score_adj}
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {bin_dir}
conf_dir = {conf_dir}

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {registries}

[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = {runc}
"#,
        root = quote(&node.containerd_root()),
        state = quote(&node.containerd_state()),
        unused = unused.concat(),
        socket = quote(&node.containerd_socket()),
        ttrpc = quote(&node.run.join("containerd.sock.ttrpc")),
        disable_apparmor = !machine.apparmor,
        restrict_oom_score_adj = !machine.may_lower_oom_score,
        bin_dir = quote(cni_bin),
        conf_dir = quote(&node.cni_conf()),
        registries = quote(&node.registries()),
        runc = quote(runc),
    )
}

/// A TOML basic string.
pub(crate) fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Paths;

    #[test]
    fn the_configuration_of_a_node() {
        let paths = Paths::of(&"local".parse().expect("valid"));
        let machine = Machine {
            may_lower_oom_score: false,
            apparmor: false,
        };
        let text = config(
            &paths.node("node-1"),
            &paths.cni_bin(),
            Path::new("/usr/sbin/runc"),
            machine,
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_machine_that_may_protects_containers_from_the_oom_killer() {
        assert!(has_sys_resource("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!has_sys_resource("CapEff:\t000001fffeffffff\n"));
        assert!(!has_sys_resource(""));
    }

    #[test]
    fn quotes_and_control_characters_are_escaped() {
        assert_eq!(toml_string("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000A\"");
    }
}
