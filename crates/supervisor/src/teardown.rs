//! Takes a cluster out, whatever state it is in.
//!
//! Everything a cluster has on the machine is found by its name, so neither a supervisor nor an
//! intact `cluster.json` is needed, and doing it twice does no harm.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use kernel::cgroup::{Group, Hierarchies};
use kernel::process::{Inode, ProcessId};
use kernel::{NetNs, Netlink, mountns, netns};
use tokio::time::{Instant, sleep};

use crate::node::PRIVATE;
use crate::paths::{DATA_ROOT, RUN_ROOT};
use crate::protocol::{Client, Request};
use crate::{ClusterName, Error, Paths, files, way_out};

/// How long the supervisor may take to end the server and the agents.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(20);
/// How long to wait for init.
const REAP_LIMIT: Duration = Duration::from_secs(5);
/// How long the kernel may take to let go of processes and control groups.
const KERNEL_LIMIT: Duration = Duration::from_secs(20);

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Keep what lasts: objects, certificates, images, volumes.
    pub keep_data: bool,
}

/// Whether anything of the cluster is on this machine.
#[must_use]
pub fn exists(name: &ClusterName) -> bool {
    let paths = Paths::of(name);
    paths.data.exists()
        || paths.run.exists()
        || group(name).is_ok_and(|group| group.exists())
        || !namespaces(name).is_empty()
}

/// Takes the cluster out. `progress` is told what is being done.
///
/// Each part is tried even when one before it failed.
///
/// # Errors
/// What could not be removed, one line each.
pub async fn down(name: &ClusterName, options: Options, progress: impl Fn(&str)) -> Result<(), Vec<String>> {
    let paths = Paths::of(name);
    let mut left = Vec::new();
    let mut note = |result: Result<(), Error>| left.extend(result.err().map(|error| error.to_string()));
    progress("ending the server and the agents");
    end_supervisor(&paths).await;
    progress("ending pods and nodes");
    note(kill(name).await);
    progress("removing namespaces, links and mounts");
    let held = held_namespaces(name);
    note(remove_mounts(&paths));
    note(remove_namespaces(name));
    note(remove_machine_link(name).await);
    note(way_out::close(name).await);
    progress("removing control groups and files");
    note(remove_groups(name).await);
    note(files::remove_dir(&paths.run));
    if !options.keep_data {
        note(mountns::unmount_below(&paths.data).map_err(Error::system("mounts")));
        note(files::remove_dir(&paths.data));
    }
    tidy_up();
    until_reaped(name).await;
    left.extend(survivors(&held));
    if left.is_empty() { Ok(()) } else { Err(left) }
}

/// In good order if it answers; if not, its control group ends it.
async fn end_supervisor(paths: &Paths) {
    let ask = async {
        let client = Client::send(&paths.supervisor_socket(), &Request::Shutdown).await?;
        match client {
            Some(client) => client.done().await,
            None => Ok(()),
        }
    };
    match tokio::time::timeout(SUPERVISOR_LIMIT, ask).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the supervisor can't be asked to end"),
        Err(_) => tracing::warn!("the supervisor doesn't end"),
    }
}

fn group(name: &ClusterName) -> Result<Group, Error> {
    let hierarchies = Hierarchies::detect().map_err(Error::system("control groups"))?;
    Ok(hierarchies.group(&name.cgroup()))
}

async fn kill(name: &ClusterName) -> Result<(), Error> {
    let group = group(name)?;
    let work = tokio::task::spawn_blocking(move || group.kill_all(KERNEL_LIMIT));
    work.await
        .expect("killing doesn't panic")
        .map_err(Error::system("processes"))
}

async fn remove_groups(name: &ClusterName) -> Result<(), Error> {
    let group = group(name)?;
    let work = tokio::task::spawn_blocking(move || group.remove(KERNEL_LIMIT));
    work.await
        .expect("removing doesn't panic")
        .map_err(Error::system("control groups"))
}

/// What has ended is an entry in the process table until init takes notice, which the init of a
/// small virtual machine or container does now and then only. That is none of our business, but
/// people look.
async fn until_reaped(name: &ClusterName) {
    let Ok(group) = group(name) else { return };
    let deadline = Instant::now() + REAP_LIMIT;
    while group.has_remnants() && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}

fn remove_mounts(paths: &Paths) -> Result<(), Error> {
    if let Ok(entries) = fs::read_dir(paths.mounts()) {
        for entry in entries.flatten() {
            mountns::remove(&entry.path()).map_err(Error::system("mounts"))?;
        }
    }
    mountns::unmount_below(&paths.run).map_err(Error::system("mounts"))
}

/// The cluster's names in `/run/netns`. `ripstop-a-b-switch` is of the cluster `a-b`, and not of `a`.
///
/// Nodes that were given names have folders of these names.
fn namespaces(name: &ClusterName) -> Vec<String> {
    let prefix = name.node_netns("");
    let named = node_folders(&Paths::of(name));
    let of_this = |found: &String| {
        let Some(rest) = found.strip_prefix(&prefix) else {
            return false;
        };
        let number = rest.strip_prefix("node-");
        let is_node = number.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
        is_node || rest == "switch" || named.contains(rest)
    };
    let names = NetNs::names().unwrap_or_default();
    names.into_iter().filter(of_this).collect()
}

fn node_folders(paths: &Paths) -> BTreeSet<String> {
    let nodes = [paths.data.join("nodes"), paths.run.join("nodes")];
    let entries = nodes.iter().filter_map(|dir| fs::read_dir(dir).ok());
    let names = entries.flat_map(|entries| entries.flatten());
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// A namespace of the cluster, kept open: as long as it is, no other namespace on the machine is given its
/// inode number, by which its processes are found.
struct Held {
    name: String,
    inode: Inode,
    _open: NetNs,
}

fn held_namespaces(name: &ClusterName) -> Vec<Held> {
    let hold = |name: String| {
        let open = NetNs::open_named(&name).ok()?;
        let inode = Inode::of(&netns::named(&name))?;
        Some(Held {
            name,
            inode,
            _open: open,
        })
    };
    namespaces(name).into_iter().filter_map(hold).collect()
}

fn remove_namespaces(name: &ClusterName) -> Result<(), Error> {
    for namespace in namespaces(name) {
        NetNs::delete_named(&namespace)?;
    }
    Ok(())
}

/// The namespace takes the link along when it ends, which may be a moment later.
async fn remove_machine_link(name: &ClusterName) -> Result<(), Error> {
    Netlink::current()?.delete_link(&name.machine_link()).await?;
    Ok(())
}

/// Removes folders and control groups that all clusters share, once the last one is gone.
fn tidy_up() {
    if let Ok(hierarchies) = Hierarchies::detect() {
        hierarchies.group("/ripstop").remove_if_empty();
    }
    for dir in PRIVATE.iter().chain(&[DATA_ROOT, RUN_ROOT]) {
        // Refused where something is inside.
        let _ = fs::remove_dir(Path::new(dir));
    }
}

/// Processes that someone else put into the cluster's namespaces: a shell of `ip netns exec`, say.
/// They aren't ours to end.
fn survivors(namespaces: &[Held]) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found = Vec::new();
    for id in pids.filter_map(ProcessId::of) {
        let inside = id.namespace("net");
        let held = namespaces.iter().find(|held| inside == Some(held.inode));
        if let Some(Held { name, .. }) = held {
            found.push(format!(
                "process {} ({}) is still in the network namespace {name}: end it, and the namespace goes",
                id.pid,
                id.command_line().join(" ")
            ));
        }
    }
    found
}
