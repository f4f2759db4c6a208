//! Control groups in every hierarchy that the machine has.
//!
//! A machine has one hierarchy (cgroup2), one per controller (version 1), or both side by side.
//! A [`Group`] is one path in all of them, so that callers needn't know:
//!
//! ```text
//! /ripstop/local/node-1 ─┬─ /sys/fs/cgroup/unified/ripstop/local/node-1
//!                        ├─ /sys/fs/cgroup/memory/ripstop/local/node-1
//!                        └─ …
//! ```
//!
//! What a group may take is set with [`Limits`], in the words of whichever version it is.
//!
//! Ending a group's processes is one write where the kernel has `cgroup.kill` (5.14), and goes by
//! pidfd elsewhere, so that a pid that was used again is never hit.

mod limits;
mod usage;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::context::Context;
use crate::mountinfo::{self, Mount};
use crate::process::ProcessId;

pub use self::limits::Limits;
pub use self::usage::Usage;

/// How often is looked whether a group is empty.
const PAUSE: Duration = Duration::from_millis(5);
/// What the kernel adds to the path of a group that is gone while a process still counts to it.
const DELETED: &str = " (deleted)";
/// How often a group is made that vanishes meanwhile.
const CREATE_TRIES: u32 = 100;
/// The controllers of cgroup2 that containers are limited with.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub root: PathBuf,
    /// cgroup2, and not one of version 1.
    pub unified: bool,
    /// What it controls; for a version 1 hierarchy that only has a name, `name=NAME`.
    pub controllers: BTreeSet<String>,
}

/// All hierarchies of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Finds them among the mounts.
    ///
    /// # Errors
    /// When `/proc` can't be read, or no hierarchy is mounted.
    pub fn detect() -> io::Result<Self> {
        let mut found: Vec<Hierarchy> = Vec::new();
        for mount in mountinfo::mounts()? {
            let Some(hierarchy) = Hierarchy::of(&mount) else {
                continue;
            };
            // The same hierarchy mounted again elsewhere would only be done twice.
            let known = found.iter().any(|other| {
                (other.unified && hierarchy.unified)
                    || (!other.controllers.is_empty() && other.controllers == hierarchy.controllers)
            });
            if !known && hierarchy.root.join("cgroup.procs").exists() {
                found.push(hierarchy);
            }
        }
        if found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup",
            ));
        }
        Ok(Self(found))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter()
    }

    /// Whether some hierarchy has this controller.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.iter().any(|h| h.controllers.contains(controller))
    }

    /// The group at an absolute path such as `/ripstop/local`; it need not exist.
    #[must_use]
    pub fn group(&self, path: &str) -> Group {
        Group {
            path: path.trim_matches('/').to_owned(),
            hierarchies: self.0.clone(),
        }
    }
}

impl Hierarchy {
    fn of(mount: &Mount) -> Option<Self> {
        let unified = match mount.fstype.as_str() {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let controllers = if unified {
            let text = fs::read_to_string(mount.target.join("cgroup.controllers"));
            words(&text.unwrap_or_default())
        } else {
            let options = mount.options.split(',');
            let not_a_controller = ["ro", "rw", "xattr", "noprefix", "clone_children"];
            let keep = |option: &&str| {
                !not_a_controller.contains(option) && (!option.contains('=') || option.starts_with("name="))
            };
            options.filter(keep).map(str::to_owned).collect()
        };
        Some(Self {
            root: mount.target.clone(),
            unified,
            controllers,
        })
    }

    /// Makes one level of a group, ready to have processes and limits.
    fn create_level(&self, dir: &Path, parent: &Path) -> io::Result<()> {
        if self.unified {
            enable_controllers(parent);
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).context(|| format!("make the cgroup {}", dir.display()));
            }
            _ => {}
        }
        if self.controllers.contains("cpuset") && !self.unified {
            // In version 1 a new group may use no processor at all, and nothing can join it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(&dir.join(file), &parent.join(file))?;
            }
        }
        Ok(())
    }
}

/// One path in all hierarchies.
#[derive(Debug, Clone)]
pub struct Group {
    path: String,
    hierarchies: Vec<Hierarchy>,
}

impl Group {
    /// The absolute path, the same in every hierarchy.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", self.path)
    }

    /// A group inside this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self {
            path: format!("{}/{name}", self.path),
            hierarchies: self.hierarchies.clone(),
        }
    }

    /// Makes the group, with what leads to it, in every hierarchy.
    ///
    /// # Errors
    /// When the kernel refuses it in any of them.
    pub fn create(&self) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            let mut tries = 0..CREATE_TRIES;
            while let Err(error) = self.create_in(hierarchy) {
                // Somebody else removed what leads to it, empty as it still was.
                if error.kind() != io::ErrorKind::NotFound || tries.next().is_none() {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn create_in(&self, hierarchy: &Hierarchy) -> io::Result<()> {
        let mut parent = hierarchy.root.clone();
        for name in self.path.split('/') {
            let dir = parent.join(name);
            hierarchy.create_level(&dir, &parent)?;
            parent = dir;
        }
        Ok(())
    }

    /// Whether it exists in any hierarchy.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dirs().any(|dir| dir.exists())
    }

    /// Moves a process in.
    ///
    /// # Errors
    /// When the group isn't there, or the process has ended.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for dir in self.dirs() {
            fs::write(dir.join("cgroup.procs"), pid.to_string())
                .context(|| format!("move process {pid} to {}", dir.display()))?;
        }
        Ok(())
    }

    /// The files through which a process joins, see [`crate::process::prepare`].
    pub(crate) fn open_procs(&self) -> io::Result<Vec<File>> {
        let open = |dir: PathBuf| {
            let path = dir.join("cgroup.procs");
            OpenOptions::new()
                .write(true)
                .open(&path)
                .context(|| format!("open {}", path.display()))
        };
        self.dirs().map(open).collect()
    }

    /// The processes in the group and in all groups below it.
    #[must_use]
    pub fn pids(&self) -> BTreeSet<u32> {
        let mut pids = BTreeSet::new();
        for dir in self.dirs() {
            walk(&dir, &mut |dir| {
                let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            });
        }
        pids
    }

    /// Whether any process counts to the group or one below it, be it that it has ended and only
    /// waits for its parent to take notice.
    #[must_use]
    pub fn has_remnants(&self) -> bool {
        let Ok(entries) = fs::read_dir("/proc") else {
            return false;
        };
        let mut groups = entries
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
            .filter_map(|entry| fs::read_to_string(entry.path().join("cgroup")).ok());
        groups.any(|text| text.lines().any(|line| self.holds(line)))
    }

    /// Ends every process in the group and below it, and waits until they are gone.
    ///
    /// # Errors
    /// When processes are left after `limit`.
    pub fn kill_all(&self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        for hierarchy in self.hierarchies.iter().filter(|h| h.unified) {
            // Refused by kernels before 5.14, where the loop below does the work.
            let _ = fs::write(hierarchy.root.join(&self.path).join("cgroup.kill"), "1");
        }
        loop {
            let alive: Vec<_> = self.pids().into_iter().filter_map(ProcessId::of).collect();
            if alive.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let pids: Vec<_> = alive.iter().map(|id| id.pid.to_string()).collect();
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("processes in {} don't end: {}", self.path(), pids.join(", ")),
                ));
            }
            for id in alive {
                self.kill_one(id)?;
            }
            sleep(PAUSE);
        }
    }

    fn kill_one(&self, id: ProcessId) -> io::Result<()> {
        let Some(process) = id.open()? else {
            return Ok(());
        };
        // Between the list and the descriptor the pid may have come to name another process.
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", id.pid)).unwrap_or_default();
        if groups.lines().any(|line| self.holds(line)) {
            process.signal(Signal::SIGKILL)?;
        }
        Ok(())
    }

    /// Whether a line of `/proc/PID/cgroup` (`ID:CONTROLLERS:PATH`) names this group or one below.
    fn holds(&self, line: &str) -> bool {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        let own = self.path();
        path.match_indices(&own)
            .map(|(at, _)| &path[at + own.len()..])
            .any(|rest| rest.is_empty() || rest.starts_with('/') || rest == DELETED)
    }

    /// Removes the group and everything below it in every hierarchy, waiting for processes that
    /// are about to be gone; does nothing where it doesn't exist.
    ///
    /// # Errors
    /// When a group is still in use after `limit`.
    pub fn remove(&self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        for dir in self.dirs() {
            while let Err(error) = remove_tree(&dir) {
                if Instant::now() > deadline {
                    return Err(error).context(|| format!("remove the cgroup {}", dir.display()));
                }
                sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Removes the group where it has neither processes nor groups; leaves it elsewhere.
    pub fn remove_if_empty(&self) {
        for dir in self.dirs() {
            let _ = fs::remove_dir(dir);
        }
    }

    fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.iter().map(|h| h.root.join(&self.path))
    }
}

/// Lets the groups inside `dir` be limited. Each by itself: one that the kernel lacks or refuses
/// must not keep the others away; who needs it finds out by setting a limit.
fn enable_controllers(dir: &Path) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let enabled = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    let (available, enabled) = (words(&available), words(&enabled));
    for controller in CONTROLLERS {
        if available.contains(controller) && !enabled.contains(controller) {
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Gives a new cpuset group what its parent has.
fn inherit(file: &Path, parent: &Path) -> io::Result<()> {
    let own = fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
    if own.trim().is_empty() {
        let value = fs::read_to_string(parent).context(|| format!("read {}", parent.display()))?;
        fs::write(file, value.trim()).context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Visits a group and all below it, the innermost first.
fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    for child in subgroups(dir) {
        walk(&child, visit);
    }
    visit(dir);
}

fn subgroups(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let dirs = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in subgroups(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
