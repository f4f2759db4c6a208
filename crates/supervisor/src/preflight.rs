//! Looks, before anything is made, whether a cluster can run on this machine.
//!
//! What the kernel can do is tried rather than guessed, in namespaces that end at once: modules
//! are loaded by that as they will be by the cluster. No port is looked at: a cluster listens in
//! its own namespaces only.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;

use kernel::cgroup::Hierarchies;
use kernel::link::VethEnd;
use kernel::machine::NodeNetwork;
use kernel::{NetNs, Netlink, mountns};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use crate::cluster::Programs;
use crate::network::{Family, IpFamily};

/// Less than this on the disk, and images don't fit.
const LEAST_DISK: u64 = 256 << 20;
/// Less than this, and it is tight.
const LITTLE_DISK: u64 = 2 << 30;
/// The first containerd that serves the CRI in the version that is spoken.
const OLDEST_CONTAINERD: (u32, u32) = (1, 6);
/// Watches of files that a node's containerd, shims and agent hold.
const INOTIFY_PER_NODE: u64 = 16;
/// On pure cgroup2 each container's shim has one more, for out-of-memory events.
const INOTIFY_PER_NODE_CGROUP2: u64 = 130;

/// Something that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, in one line.
    pub what: String,
    /// What to do about it, in one line.
    pub cure: String,
    /// Whether it is in the way of everything, or may do harm later.
    pub fatal: bool,
}

impl Problem {
    pub(crate) fn fatal(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cure: cure.into(),
            fatal: true,
        }
    }

    fn warning(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            fatal: false,
            ..Self::fatal(what, cure)
        }
    }
}

/// Whether this is root; without, nothing else can be looked at.
#[must_use]
pub fn root() -> Option<Problem> {
    (!geteuid().is_root()).then(|| {
        Problem::fatal(
            "only root can make namespaces for nodes",
            "run it with sudo, as in `sudo ripstop up`",
        )
    })
}

/// Everything that is in the way of a cluster with that many nodes of these families.
pub async fn check(programs: &Programs, nodes: usize, ip_family: IpFamily, data: &Path) -> Vec<Problem> {
    let programs = programs.clone();
    let versions = tokio::task::spawn_blocking(move || check_versions(&programs));
    let mut problems = check_network().await;
    problems.extend(check_overlay());
    problems.extend(check_cgroups());
    let families = ip_family.families();
    problems.extend(families.iter().filter_map(|family| check_forwarding(*family)));
    problems.extend(check_inotify(nodes));
    problems.extend(check_disk(data));
    problems.extend(versions.await.unwrap_or_default());
    problems
}

async fn check_network() -> Vec<Problem> {
    let cure = |option: &str| format!("use a kernel with {option} (`modprobe` may be enough)");
    let netns = match NetNs::anonymous() {
        Ok(netns) => netns,
        Err(error) => {
            let what = format!("network namespaces don't work: {error}");
            return vec![Problem::fatal(what, cure("CONFIG_NET_NS"))];
        }
    };
    let netlink = match Netlink::open(&netns) {
        Ok(netlink) => netlink,
        Err(error) => {
            let what = format!("netlink doesn't work: {error}");
            return vec![Problem::fatal(what, "run it on Linux 5.10 or newer".to_owned())];
        }
    };
    let mut problems = Vec::new();
    if let Err(error) = netlink.add_bridge("bridge").await {
        let what = format!("bridges don't work: {error}");
        problems.push(Problem::fatal(what, cure("CONFIG_BRIDGE")));
    }
    let end = |name| VethEnd {
        name,
        ..VethEnd::default()
    };
    if let Err(error) = netlink.add_veth(&end("near"), &end("far")).await {
        let what = format!("veth links don't work: {error}");
        problems.push(Problem::fatal(what, cure("CONFIG_VETH")));
    }
    let nets = ["192.0.2.0/24".parse().expect("a range")];
    let network = NodeNetwork {
        cluster: "preflight",
        link: "lo",
        nets: &nets,
    };
    let filter = kernel::machine::Machine::open(netns).and_then(|machine| machine.masquerade(network));
    if let Err(error) = filter {
        let what = format!("nftables doesn't work: {error}");
        problems.push(Problem::fatal(
            what,
            cure("CONFIG_NF_TABLES, CONFIG_NFT_NAT and CONFIG_NFT_MASQ"),
        ));
    }
    problems
}

fn check_overlay() -> Option<Problem> {
    let error = mountns::try_overlay().err()?;
    Some(Problem::fatal(
        format!("overlayfs doesn't work: {error}"),
        "use a kernel with CONFIG_OVERLAY_FS (`modprobe overlay` may be enough)",
    ))
}

fn check_cgroups() -> Vec<Problem> {
    let hierarchies = match Hierarchies::detect() {
        Ok(hierarchies) => hierarchies,
        Err(error) => {
            let cure = "mount it: `mount -t cgroup2 none /sys/fs/cgroup`";
            return vec![Problem::fatal(
                format!("control groups can't be used: {error}"),
                cure,
            )];
        }
    };
    let missing = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|controller| !hierarchies.has(controller));
    missing
        .map(|controller| {
            Problem::fatal(
                format!("the cgroup controller `{controller}` isn't there: pods' limits can't be kept"),
                format!("boot with `cgroup_enable={controller}`, or mount its hierarchy"),
            )
        })
        .collect()
}

fn check_forwarding(family: Family) -> Option<Problem> {
    let sysctl = match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    };
    let path = format!("/proc/sys/{sysctl}");
    if !Path::new(&path).exists() {
        return Some(Problem::fatal(
            format!("this kernel has no {family}"),
            match family {
                Family::V4 => "use a kernel with CONFIG_INET",
                Family::V6 => {
                    "boot without `ipv6.disable=1` (`modprobe ipv6` may be enough), or use `--ip-family ipv4`"
                }
            },
        ));
    }
    let on = fs::read_to_string(&path).is_ok_and(|text| text.trim() == "1");
    let error = OpenOptions::new().write(true).open(&path).err();
    let error = error.filter(|_| !on)?;
    Some(Problem::fatal(
        format!("forwarding can't be switched on: {path}: {error}"),
        format!(
            "run `sysctl -w {}=1` on the machine itself",
            sysctl.replace('/', ".")
        ),
    ))
}

fn check_inotify(nodes: usize) -> Option<Problem> {
    let limit: u64 = read_number("/proc/sys/fs/inotify/max_user_instances")?;
    let hybrid = Hierarchies::detect().is_ok_and(|found| found.iter().any(|hierarchy| !hierarchy.unified));
    let each = if hybrid {
        INOTIFY_PER_NODE
    } else {
        INOTIFY_PER_NODE_CGROUP2
    };
    let needed = each * nodes as u64 + inotify_in_use();
    (needed > limit).then(|| {
        Problem::warning(
            format!("fs.inotify.max_user_instances is {limit}, and {nodes} nodes may need {needed}"),
            format!(
                "run `sysctl -w fs.inotify.max_user_instances={}`",
                needed.next_power_of_two().max(1024)
            ),
        )
    })
}

/// Instances that root's processes have now.
fn inotify_in_use() -> u64 {
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    let files = processes
        .flatten()
        .filter_map(|process| fs::read_dir(process.path().join("fd")).ok());
    let targets = files.flat_map(|dir| dir.flatten().filter_map(|file| fs::read_link(file.path()).ok()));
    targets
        .filter(|target| target.as_os_str() == "anon_inode:inotify")
        .count() as u64
}

fn check_disk(data: &Path) -> Option<Problem> {
    let existing = data.ancestors().find(|path| path.exists())?;
    let stat = statvfs(existing).ok()?;
    let free = stat.blocks_available() * stat.fragment_size();
    let what = format!("{} has {} MiB left", existing.display(), free >> 20);
    let cure = "make room: images and containers are kept there";
    if free < LEAST_DISK {
        return Some(Problem::fatal(what, cure));
    }
    (free < LITTLE_DISK).then(|| Problem::warning(what, cure))
}

fn check_versions(programs: &Programs) -> Vec<Problem> {
    let mut problems = Vec::new();
    match output(&programs.containerd) {
        Ok(text) => {
            if version(&text).is_some_and(|found| found < OLDEST_CONTAINERD) {
                let what = format!("containerd is too old: {}", text.trim());
                problems.push(Problem::fatal(what, "install containerd 1.6 or newer"));
            }
        }
        Err(error) => problems.push(Problem::fatal(
            format!("{} doesn't run: {error}", programs.containerd.display()),
            "install containerd anew, as in `apt install --reinstall containerd`",
        )),
    }
    if let Err(error) = output(&programs.runc) {
        problems.push(Problem::fatal(
            format!("{} doesn't run: {error}", programs.runc.display()),
            "install runc anew, as in `apt install --reinstall runc`",
        ));
    }
    problems
}

fn output(program: &Path) -> std::io::Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    if !output.status.success() {
        return Err(std::io::Error::other(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first word that looks like `1.6.20~ds1` or `v2.0.0`.
fn version(text: &str) -> Option<(u32, u32)> {
    let number = |word: &str| {
        let mut parts = word.trim_start_matches('v').split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some((major, minor))
    };
    text.split_ascii_whitespace().find_map(number)
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_read() {
        let debian = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3";
        assert_eq!(version(debian), Some((1, 6)));
        assert_eq!(version("containerd containerd.io v2.1.3 abcdef"), Some((2, 1)));
        assert_eq!(version("containerd containerd.io 1.7.27 05044e"), Some((1, 7)));
        assert_eq!(version("no number"), None);
    }

    #[tokio::test]
    async fn this_machine_can_have_nodes() {
        assert_eq!(root(), None);
        let problems = [check_network().await, check_cgroups()].concat();
        assert_eq!(problems, []);
        assert_eq!(check_overlay(), None);
        assert_eq!(check_forwarding(Family::V4), None);
        assert_eq!(check_forwarding(Family::V6), None);
    }

    #[test]
    fn many_nodes_need_more_watches_than_few() {
        let limit = read_number("/proc/sys/fs/inotify/max_user_instances").expect("a number");
        let problem = check_inotify(usize::try_from(limit).expect("small")).expect("too many nodes");
        assert!(!problem.fatal);
        assert!(problem.cure.starts_with("run `sysctl -w"), "{problem:?}");
    }
}
