//! What a cluster could leave behind on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::run;

/// Everything on the machine that carries a cluster's name, or that a cluster makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// One line a find.
    pub found: BTreeSet<String>,
}

impl Traces {
    /// Looks for what belongs to the cluster `name`.
    pub fn of(name: &str) -> Traces {
        let mut found = BTreeSet::new();
        processes(name, &mut found);
        for dir in ["/var/lib/ripstop", "/run/ripstop"] {
            let path = Path::new(dir).join(name);
            if path.exists() {
                found.insert(format!("directory {}", path.display()));
            }
        }
        listing("/run/netns", &format!("ripstop-{name}-"), "namespace", &mut found);
        listing("/sys/class/net", &format!("rs-{name}"), "link", &mut found);
        mounts(name, &mut found);
        cgroups(
            Path::new("/sys/fs/cgroup"),
            &format!("/ripstop/{name}"),
            4,
            &mut found,
        );
        let ruleset = run(Command::new("nft").args(["list", "ruleset"]), None).stdout;
        for line in ruleset
            .lines()
            .filter(|line| line.contains("ripstop") && line.contains(name))
        {
            found.insert(format!("nftables: {}", line.trim()));
        }
        for family in ["-4", "-6"] {
            let routes = run(Command::new("ip").args([family, "route"]), None).stdout;
            for line in routes.lines().filter(|line| line.contains(&format!("rs-{name}"))) {
                found.insert(format!("route {line}"));
            }
        }
        Traces { found }
    }

    /// Fails, and lists what was found, if anything was.
    ///
    /// # Panics
    /// If there are traces.
    #[track_caller]
    pub fn assert_none(&self) {
        assert!(self.found.is_empty(), "left behind: {:#?}", self.found);
    }
}

fn listing(dir: &str, prefix: &str, what: &str, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            found.insert(format!("{what} {name}"));
        }
    }
}

fn processes(name: &str, found: &mut BTreeSet<String>) {
    let group = format!("/ripstop/{name}/");
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(cgroup) = fs::read_to_string(entry.path().join("cgroup")) else {
            continue;
        };
        if cgroup.contains(&group) && !ended(&entry.path()) {
            let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.insert(format!(
                "process {} {}",
                entry.file_name().to_string_lossy(),
                command.replace('\0', " ")
            ));
        }
    }
}

/// Whether a process has ended and only waits to be reaped, which for orphans is the machine's init's part.
fn ended(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

fn mounts(name: &str, found: &mut BTreeSet<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table
        .lines()
        .filter(|l| l.contains(&format!("ripstop/{name}/")) || l.contains(&format!("ripstop-{name}-")))
    {
        found.insert(format!("mount {line}"));
    }
}

fn cgroups(dir: &Path, group: &str, depth: u32, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir() && !p.is_symlink())
    {
        if path.to_string_lossy().ends_with(group) {
            found.insert(format!("cgroup {}", path.display()));
        } else if depth > 0 {
            cgroups(&path, group, depth - 1, found);
        }
    }
}
