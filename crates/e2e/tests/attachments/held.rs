//! How much of ours a node holds: what is counted before pods come and after they went.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use e2e::Cluster;
use kernel::cgroup::Hierarchies;
use serde_json::Value;

use crate::in_node;

/// How much there is, of each kind.
pub(crate) type Held = BTreeMap<&'static str, usize>;

pub(crate) fn held(cluster: &Cluster) -> Held {
    let mut held = network(cluster);
    held.extend(runtime(cluster));
    held
}

/// Links, addresses and rules.
fn network(cluster: &Cluster) -> Held {
    let lines = |command: &[&str], with: &str| {
        let text = in_node(cluster, command);
        text.lines().filter(|line| line.contains(with)).count()
    };
    let ruleset = in_node(cluster, &["nft", "-j", "list", "table", "inet", "ripstop"]);
    let ruleset: Value = serde_json::from_str(&ruleset).expect("nft prints JSON");
    let elements = |object: &Value| {
        let sets = ["set", "map"].iter();
        let sets = sets.filter_map(|kind| object[kind]["elem"].as_array());
        sets.map(Vec::len).sum::<usize>()
    };
    let objects = ruleset["nftables"].as_array().expect("a list").iter();
    BTreeMap::from([
        ("links", lines(&["ip", "link"], "rip-")),
        ("queues", lines(&["tc", "qdisc", "show"], "tbf")),
        ("IPv4 routes", lines(&["ip", "route"], "rip-")),
        ("IPv6 routes", lines(&["ip", "-6", "route"], "rip-")),
        ("neighbours", lines(&["ip", "neigh"], "rip-")),
        ("elements", objects.map(elements).sum()),
        ("attachments", attachments(cluster)),
    ])
}

/// Processes, mounts, groups and folders. Not snapshots of images: a containerd that is killed while it makes a
/// container keeps what it made for a day, by a lease that nobody ends.
fn runtime(cluster: &Cluster) -> Held {
    let name = cluster.name();
    let containerd = PathBuf::from("/run/ripstop")
        .join(name)
        .join("nodes/node-1/containerd");
    let node = cluster.data_dir().join("nodes/node-1");
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", cluster.pid("containerd node-1")));
    // The machine's own come and go as others like.
    let is_ours = |line: &&str| {
        let target = line.split(' ').nth(4).map(Path::new);
        target.is_some_and(|target| target.starts_with(&containerd) || target.starts_with(&node))
    };
    let hierarchies = Hierarchies::detect().expect("control groups");
    let group = hierarchies.group(&format!("/ripstop/{name}/node-1"));
    let pods = format!("ripstop/{name}/node-1/kubepods");
    let groups = hierarchies
        .iter()
        .map(|h| folders(&h.root.join(&pods), usize::MAX));
    BTreeMap::from([
        ("shims", shims(cluster).len()),
        ("processes", group.child("kubepods").pids().len()),
        (
            "mounts",
            mounts.map_or(0, |text| text.lines().filter(is_ours).count()),
        ),
        ("control groups", groups.sum()),
        (
            "network namespaces",
            entries(&containerd.join("io.containerd.grpc.v1.cri/netns")),
        ),
        (
            "tasks",
            folders(&containerd.join("io.containerd.runtime.v2.task"), 2),
        ),
        (
            "containers",
            folders(&node.join("containerd/io.containerd.grpc.v1.cri"), 2),
        ),
        ("volumes", entries(&node.join("pods"))),
        ("logs", entries(&node.join("logs/pods"))),
    ])
}

/// The processes that stand between containerd and containers, one a pod.
pub(crate) fn shims(cluster: &Cluster) -> Vec<u32> {
    named(cluster, "", "containerd-shim")
}

/// The web server of a pod.
pub(crate) fn servers(cluster: &Cluster, uid: &str) -> Vec<u32> {
    named(cluster, &format!("/kubepods/pod{uid}"), "toolbox")
}

/// The processes in one of the node's control groups whose names begin so.
fn named(cluster: &Cluster, group: &str, name: &str) -> Vec<u32> {
    let hierarchies = Hierarchies::detect().expect("control groups");
    let group = hierarchies.group(&format!("/ripstop/{}/node-1{group}", cluster.name()));
    let is_so = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.starts_with(name))
    };
    group.pids().into_iter().filter(is_so).collect()
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// The folders in a folder, down to that depth. Not hidden ones: a containerd that is killed while it forgets
/// a task has renamed its folder to such a name, and the next one leaves it alone. It is empty but for some
/// kilobytes, and in memory.
fn folders(folder: &Path, depth: usize) -> usize {
    if depth == 0 {
        return 0;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_hidden = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    let entries = entries.filter(|entry| !is_hidden(entry));
    let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    inner.map(|entry| 1 + folders(&entry.path(), depth - 1)).sum()
}

/// How many attachments are in the journal.
fn attachments(cluster: &Cluster) -> usize {
    let journal = cluster.data_dir().join("nodes/node-1/cni/attachments.journal");
    let journal = fs::read_to_string(journal).expect("a journal");
    let mut attachments = BTreeSet::new();
    // What isn't a whole line is being written.
    for line in journal.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let record = line.split_once(' ').map(|(_, json)| serde_json::from_str(json));
        let record: Value = record.expect("a record").expect("JSON");
        match record["op"].as_str() {
            Some("assign") => drop(attachments.insert(record["id"].to_string())),
            Some("release") => drop(attachments.remove(&record["id"].to_string())),
            _ => {}
        }
    }
    attachments.len()
}
