//! What is killed while pods come and go.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use e2e::{Cluster, eventually, run};

use crate::PATIENCE;

/// Kills, now and then, a plugin that the node's containerd has started, until dropped.
pub(crate) struct PluginKiller {
    containerd: Arc<AtomicI32>,
    killed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl PluginKiller {
    pub(crate) fn start(containerd: i32) -> PluginKiller {
        let containerd = Arc::new(AtomicI32::new(containerd));
        let (killed, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (parent, count, stopped) = (containerd.clone(), killed.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                for plugin in plugins(parent.load(Ordering::Relaxed)) {
                    // Of those that are seen at all every fifth; most live for some milliseconds only.
                    if seen.insert(plugin) && seen.len() % 5 == 0 && kill(plugin) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        PluginKiller {
            containerd,
            killed,
            stop,
            thread: Some(thread),
        }
    }

    /// From now on the plugins of this containerd, in the place of the last.
    pub(crate) fn follow(&self, containerd: i32) {
        self.containerd.store(containerd, Ordering::Relaxed);
    }

    /// How many were killed.
    pub(crate) fn killed(&self) -> usize {
        self.killed.load(Ordering::Relaxed)
    }
}

impl Drop for PluginKiller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// The plugins that a containerd waits for at the moment.
fn plugins(containerd: i32) -> Vec<i32> {
    let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
    let tasks = fs::read_dir(format!("/proc/{containerd}/task"));
    let lists = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| children(task).ok());
    let lists: Vec<String> = lists.collect();
    let pids = lists.iter().flat_map(|list| list.split_whitespace());
    let pids = pids.filter_map(|pid| pid.parse().ok());
    let is_plugin = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "ripstop-cni")
    };
    pids.filter(is_plugin).collect()
}

/// Kills a process; false if it was gone.
pub(crate) fn kill(pid: i32) -> bool {
    let outcome = run(Command::new("kill").args(["-9", &pid.to_string()]), None);
    outcome.code == Some(0)
}

/// Kills one of the cluster's processes; returns the one in its place.
pub(crate) fn replace(cluster: &Cluster, process: &str) -> i32 {
    let old = cluster.pid(process);
    assert!(kill(old), "{process}");
    eventually(PATIENCE, || match cluster.pid(process) {
        pid if pid == old => Err(format!("{process} is still {pid}")),
        pid => Ok(pid),
    })
}
