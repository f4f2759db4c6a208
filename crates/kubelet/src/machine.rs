//! The machine under the node.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;

use crate::config::Capacity;

/// The least that a node claims of the machine's processors, in thousandths, however many nodes share them: what
/// asks for one whole processor then fits. Nodes get equal parts of the time in any case, by the kernel's weights.
const LEAST_CPU: u64 = 1000;

/// What the node has and is, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cpu_millis: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes.
    pub(crate) disk: i64,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) machine_id: String,
    pub(crate) boot_id: String,
    pub(crate) system_uuid: String,
    pub(crate) architecture: &'static str,
    /// Whether the kernel enforces AppArmor profiles.
    pub(crate) app_armor: bool,
}

impl Machine {
    /// Looks around. What can't be read is empty rather than fatal.
    pub(crate) fn detect(root_dir: &Path, share: &Capacity) -> Self {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let part = |whole: u64| whole / share.shared_by.unwrap_or(1).max(1);
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let boot_id = line("/proc/sys/kernel/random/boot_id");
        let machine_id = line("/etc/machine-id");
        let system_uuid = line("/sys/class/dmi/id/product_uuid");
        Self {
            cpu_millis: signed(
                share
                    .cpu_millis
                    .unwrap_or_else(|| part(processors * 1000).max(LEAST_CPU)),
            ),
            memory: signed(share.memory_bytes.unwrap_or_else(|| part(meminfo("MemTotal")))),
            disk: signed(part(disk(root_dir).map_or(0, |d| d.total))),
            kernel: uname()
                .map(|u| u.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            system_uuid: if system_uuid.is_empty() {
                machine_id.clone()
            } else {
                system_uuid
            },
            machine_id,
            boot_id,
            architecture: architecture(),
            app_armor: line("/sys/module/apparmor/parameters/enabled") == "Y",
        }
    }
}

impl Machine {
    /// The memory and disk that pods can have, in bytes.
    pub(crate) fn allocatable(&self) -> (i64, i64) {
        let floor = i64::try_from(MEMORY_FLOOR).unwrap_or(i64::MAX);
        let percent = i64::try_from(DISK_FLOOR_PERCENT).unwrap_or(i64::MAX);
        let disk = self.disk - self.disk / 100 * percent;
        ((self.memory - floor).max(0), disk)
    }
}

/// Go's name of the architecture, which Kubernetes uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// How short the machine is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

/// Memory that must be left, in bytes: Kubernetes' own default.
const MEMORY_FLOOR: u64 = 100 << 20;
/// The share of disk blocks or inodes that must be left. Lower than in
/// Kubernetes: the node is a guest on a machine that its owner may fill, and
/// keeping pods off wouldn't make room.
const DISK_FLOOR_PERCENT: u64 = 1;
/// The share of process numbers that must be left.
const PID_FLOOR_PERCENT: u64 = 5;

impl Pressure {
    pub(crate) fn now(root_dir: &Path) -> Self {
        let short = |left: u64, total: u64, floor: u64| {
            total > 0 && left.saturating_mul(100) < total.saturating_mul(floor)
        };
        let disk = disk(root_dir);
        let pids = pids();
        Self {
            memory: meminfo("MemAvailable") < MEMORY_FLOOR,
            disk: disk.is_some_and(|d| {
                short(d.available, d.total, DISK_FLOOR_PERCENT)
                    || short(d.inodes_available, d.inodes, DISK_FLOOR_PERCENT)
            }),
            pids: pids.is_some_and(|(used, most)| short(most.saturating_sub(used), most, PID_FLOOR_PERCENT)),
        }
    }
}

/// The file system at a path, in bytes and inodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    pub(crate) total: u64,
    /// What root may still use.
    pub(crate) free: u64,
    /// What everybody may still use.
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_available: u64,
}

pub(crate) fn disk(path: &Path) -> Option<Disk> {
    let stat = statvfs(path).ok()?;
    let block = stat.fragment_size();
    Some(Disk {
        total: stat.blocks() * block,
        free: stat.blocks_free() * block,
        available: stat.blocks_available() * block,
        inodes: stat.files(),
        inodes_available: stat.files_available(),
    })
}

/// A line of /proc/meminfo, in bytes.
fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Threads that there are, and how many there can be.
pub(crate) fn pids() -> Option<(u64, u64)> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let used = load.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
    let most = fs::read_to_string("/proc/sys/kernel/pid_max").ok()?;
    Some((used, most.trim().parse().ok()?))
}

/// When the machine began.
pub(crate) fn booted() -> Option<Timestamp> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(line.trim().parse().ok()?).ok()
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map(|n| n.trim_matches(['"', '\'']))
        .unwrap_or("Linux")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_something_of_everything() {
        let machine = Machine::detect(Path::new("/"), &Capacity::default());
        assert!(
            machine.cpu_millis >= 1000 && machine.memory > 0 && machine.disk > 0,
            "{machine:?}"
        );
        assert!(!machine.kernel.is_empty());
    }

    #[test]
    fn a_share_replaces_the_whole() {
        let share = Capacity {
            cpu_millis: Some(500),
            memory_bytes: Some(1 << 30),
            shared_by: Some(2),
        };
        let machine = Machine::detect(Path::new("/"), &share);
        assert_eq!((machine.cpu_millis, machine.memory), (500, 1 << 30));
    }

    #[test]
    fn nodes_on_one_machine_share_it() {
        let whole = Machine::detect(Path::new("/"), &Capacity::default());
        let share = Capacity {
            shared_by: Some(4),
            ..Capacity::default()
        };
        let quarter = Machine::detect(Path::new("/"), &share);
        assert_eq!(quarter.cpu_millis, (whole.cpu_millis / 4).max(1000));
        assert_eq!((quarter.memory, quarter.disk), (whole.memory / 4, whole.disk / 4));
    }

    #[test]
    fn the_system_has_a_name() {
        assert_eq!(
            os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
        assert_eq!(os_image(""), "Linux");
    }
}
