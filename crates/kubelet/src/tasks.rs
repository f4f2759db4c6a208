//! What containerd forgot: folders of its tasks, with mounts and shims, that no container is behind.
//!
//! A containerd that is killed while it makes a task can't clean up after it later: its shim refuses
//! a folder that lacks what would have been written next. And one that lost its database leaves
//! whatever runs. Nobody but the node's owner removes those, and shims whose task's folder is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use kernel::process::ProcessId;
use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::config::Config;
use crate::volumes;

/// The tasks of containerd's CRI, below containerd's state folder.
const TASKS: &str = "io.containerd.runtime.v2.task/k8s.io";
/// How long containerd, where it knows a task after all, may take to clean up after its shim.
const CONTAINERD: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// A task's folder, and the pod that it was for.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) uid: String,
    pub(crate) dir: PathBuf,
}

/// The shims of this node's containerd whose tasks have no folder: about to end, or forgotten.
pub(crate) fn strays(config: &Config) -> BTreeSet<ProcessId> {
    let Some(state) = &config.containerd_state else {
        return BTreeSet::new();
    };
    let (tasks, socket) = (state.join(TASKS), config.cri_socket.to_string_lossy());
    let is_stray = |shim: &Shim| shim.address == socket && !tasks.join(&shim.id).exists();
    let strays = shims().filter(|(_, shim)| is_stray(shim));
    strays.map(|(process, _)| process).collect()
}

/// The part that matters here of a container's `config.json` (OCI runtime specification).
#[derive(Deserialize)]
struct Spec {
    linux: Linux,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(rename = "cgroupsPath")]
    cgroups_path: String,
}

/// The tasks of pods of this node.
pub(crate) fn scan(config: &Config) -> Vec<Task> {
    let Some(state) = &config.containerd_state else {
        return Vec::new();
    };
    let entries = fs::read_dir(state.join(TASKS)).into_iter().flatten().flatten();
    let pods = format!("{}/pod", config.pods_cgroup());
    let task = |entry: fs::DirEntry| {
        let dir = entry.path();
        let uid = uid(&fs::read(dir.join("config.json")).ok()?, &pods)?;
        Some(Task { uid, dir })
    };
    entries.filter_map(task).collect()
}

/// The pod of a container, by its cgroup: `PODS` is how those of pods begin.
fn uid(spec: &[u8], pods: &str) -> Option<String> {
    let spec: Spec = serde_json::from_slice(spec).ok()?;
    let (uid, _container) = spec.linux.cgroups_path.strip_prefix(pods)?.split_once('/')?;
    Some(uid.to_owned())
}

impl Task {
    /// Ends its shim, and removes its folder and what is mounted there.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let id = self.dir.file_name().unwrap_or_default();
        if kill_shim(&id.to_string_lossy())? {
            let end = Instant::now() + CONTAINERD;
            while self.dir.exists() && Instant::now() < end {
                thread::sleep(PAUSE);
            }
        }
        // Where the shim kept files that are to outlive the machine's start.
        let work = fs::read_link(self.dir.join("work"));
        volumes::remove_unmounted(&self.dir)?;
        match work {
            Ok(work) if work.file_name() == Some(id) => volumes::remove_unmounted(&work),
            _ => Ok(()),
        }
    }
}

/// Kills the shim that was started for a task, if it runs; says whether it did.
fn kill_shim(id: &str) -> io::Result<bool> {
    match shims().find(|(_, shim)| shim.id == id) {
        Some((process, _)) => kill(process).map(|()| true),
        None => Ok(false),
    }
}

/// Kills a process unless it has ended.
pub(crate) fn kill(process: ProcessId) -> io::Result<()> {
    match process.open()? {
        Some(process) => process.signal(Signal::SIGKILL),
        None => Ok(()),
    }
}

/// What a shim was started for.
#[derive(Debug, PartialEq, Eq)]
struct Shim {
    /// The task.
    id: String,
    /// The socket of its containerd.
    address: String,
}

impl Shim {
    fn of(arguments: &[String]) -> Option<Shim> {
        let program = Path::new(arguments.first()?).file_name()?;
        let is_shim = program.as_encoded_bytes().starts_with(b"containerd-shim");
        let after = |name: &str| {
            let mut pairs = arguments.windows(2);
            pairs.find(|pair| pair[0] == name).map(|pair| pair[1].clone())
        };
        is_shim.then_some(Shim {
            id: after("-id")?,
            address: after("-address")?,
        })
    }
}

/// The shims that run on this machine.
fn shims() -> impl Iterator<Item = (ProcessId, Shim)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let processes = processes.filter_map(ProcessId::of);
    processes.filter_map(|process| Some((process, Shim::of(&process.command_line())?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_the_pods_whose_cgroup_its_container_has() {
        let spec = |path: &str| format!(r#"{{"ociVersion": "1.0.2", "linux": {{"cgroupsPath": "{path}"}}}}"#);
        let of = |path: &str| uid(spec(path).as_bytes(), "/ripstop/local/node-1/kubepods/pod");
        let own = "/ripstop/local/node-1/kubepods/pod198b588c/0167267796e3";
        assert_eq!(of(own), Some("198b588c".to_owned()));
        for others in [
            "/ripstop/local/node-10/kubepods/pod198b588c/0167267796e3",
            "/ripstop/local/node-1/kubepods/pod198b588c",
            "system.slice:cri-containerd:0167267796e3",
            "",
        ] {
            assert_eq!(of(others), None, "{others}");
        }
        assert_eq!(uid(b"{\"linux\": ", "/"), None);
    }

    #[test]
    fn a_shim_is_told_by_what_it_was_started_for() {
        let of = |line: &str| {
            let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
            Shim::of(&arguments)
        };
        let shim = "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id a1 -address /run/c.sock";
        let expected = Shim {
            id: "a1".to_owned(),
            address: "/run/c.sock".to_owned(),
        };
        assert_eq!(of(shim), Some(expected));
        assert_eq!(of("/usr/bin/less -id a1 -address /run/c.sock"), None);
        assert_eq!(of("containerd-shim-runc-v2 -v"), None);
        assert_eq!(Shim::of(&[]), None);
    }
}
