//! A node of the embedded cluster: its namespaces, folders and control group.
//!
//! A node "has power" while its mount namespace exists. What it keeps is its data folder; the
//! rest ends as it would if the plug was pulled.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kernel::cgroup::{Group, Hierarchies};
use kernel::mountns;
use kernel::netns;
use kernel::process::Place;

use crate::cluster::{Cluster, Node};
use crate::containerd::{self, Machine};
use crate::resolver::Resolver;
use crate::settings::Mount;
use crate::unit::Unit;
use crate::{Error, NodePaths, Paths, agent_config, dns_config, fabric, files, registries};

/// How long processes and control groups may take to be gone after they were killed.
const KILL_LIMIT: Duration = Duration::from_secs(15);

/// Folders that programs use whatever they are told, and that each node has for itself.
///
/// Shims put their sockets below `/run/containerd`, and CNI's library its cache below
/// `/var/lib/cni`.
pub(crate) const PRIVATE: [&str; 2] = ["/run/containerd", "/var/lib/cni"];

/// A node's processes, ready to be looked after.
#[derive(Debug)]
pub(crate) struct Units {
    pub(crate) containerd: Unit,
    pub(crate) dns: Unit,
    pub(crate) agent: Unit,
}

/// Gives a node power: everything that its processes need is there afterwards. What is there
/// already stays.
pub(crate) async fn power_on(
    cluster: &Cluster,
    paths: &Paths,
    node: &Node,
    resolver: &Resolver,
) -> Result<Units, Error> {
    let own = paths.node(&node.name);
    let group = group(cluster, &node.name)?;
    if !mountns::exists(&own.mountns) {
        start_afresh(&own, &group)?;
    }
    let system = group.child("system");
    system
        .create()
        .map_err(Error::system(format!("{}'s control group", node.name)))?;
    fabric::build_node(cluster, node).await?;
    for dir in [
        own.containerd_root(),
        own.registries(),
        own.cni_conf(),
        own.run.clone(),
    ] {
        files::make_dir(&dir)?;
    }
    files::write(&own.resolv_conf(), &resolver.text, 0o644)?;
    let registries = &cluster.settings.registries;
    registries::write(
        &own.registries(),
        registries,
        cluster.ranges.preferred().gateway().addr(),
    )?;
    if let Some(text) = &resolver.on_loopback {
        files::write(&own.upstreams(), text, 0o644)?;
    }
    if !mountns::exists(&own.mountns) {
        make_mounts(&own, &node.settings.mounts)?;
    }
    let programs = &cluster.programs;
    let config = containerd::config(&own, &paths.cni_bin(), &programs.runc, Machine::detect());
    let containerd_changed = files::write(&own.containerd_config(), &config, 0o644)?;
    let config = agent_config::render(cluster, paths, node);
    let agent_changed = files::write(&own.agent_config(), &config, 0o600)?;
    let config = dns_config::render(cluster, paths, node, resolver);
    let dns_changed = files::write(&own.dns_config(), &config, 0o600)?;
    let unit = |kind: &str, program: &Path, args: [&str; 3], replace, grace| Unit {
        name: format!("{kind} {}", node.name),
        program: program.to_owned(),
        args: args
            .into_iter()
            .filter(|arg| !arg.is_empty())
            .map(str::to_owned)
            .collect(),
        place: place(cluster, &own, &node.name, &system),
        log: paths.log(&format!("{kind} {}", node.name)),
        replace,
        grace,
        listen: Vec::new(),
    };
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let containerd_config = text(own.containerd_config());
    let agent_config = text(own.agent_config());
    let dns_file = text(own.dns_config());
    let dns = Unit {
        listen: dns_config::listen(cluster, node),
        ..unit(
            "dns",
            &programs.ripstop,
            ["dns", "--config", &dns_file],
            dns_changed,
            Duration::from_secs(6),
        )
    };
    Ok(Units {
        containerd: unit(
            "containerd",
            &programs.containerd,
            ["--config", &containerd_config, ""],
            containerd_changed,
            Duration::from_secs(5),
        ),
        dns,
        agent: unit(
            "agent",
            &programs.ripstop,
            ["agent", "--config", &agent_config],
            agent_changed,
            Duration::from_secs(3),
        ),
    })
}

/// Pulls the plug: nothing on the node gets to say goodbye.
pub(crate) async fn power_off(cluster: &Cluster, paths: &Paths, node: &str) -> Result<(), Error> {
    let own = paths.node(node);
    let group = group(cluster, node)?;
    let failed = |what: &str| Error::system(format!("{node}'s {what}"));
    let doomed = group.clone();
    let killed = tokio::task::spawn_blocking(move || doomed.kill_all(KILL_LIMIT)).await;
    killed
        .expect("killing doesn't panic")
        .map_err(failed("processes"))?;
    mountns::remove(&own.mountns).map_err(failed("mounts"))?;
    fabric::remove_node(cluster, node).await?;
    let removed = tokio::task::spawn_blocking(move || group.remove(KILL_LIMIT)).await;
    removed
        .expect("removing doesn't panic")
        .map_err(failed("control groups"))?;
    files::remove_dir(&own.run)
}

/// Where a program has to run to be on the node.
pub(crate) fn place(cluster: &Cluster, own: &NodePaths, node: &str, system: &Group) -> Place {
    Place {
        netns: Some(netns::named(&cluster.name.node_netns(node))),
        mountns: Some(own.mountns.clone()),
        cgroup: Some(system.clone()),
        // Host-network pods have their node's.
        hostname: Some(node.to_owned()),
    }
}

/// The path of a node's control group.
pub(crate) fn cgroup(cluster: &Cluster, node: &str) -> String {
    format!("{}/{node}", cluster.name.cgroup())
}

/// A node's control group.
pub(crate) fn group(cluster: &Cluster, node: &str) -> Result<Group, Error> {
    let hierarchies = Hierarchies::detect().map_err(Error::system("control groups"))?;
    Ok(hierarchies.group(&cgroup(cluster, node)))
}

/// Removes what a node that lost its power would not have any more.
fn start_afresh(own: &NodePaths, group: &Group) -> Result<(), Error> {
    // Processes without their mounts: a supervisor died in the middle of stopping the node.
    group
        .kill_all(KILL_LIMIT)
        .map_err(Error::system("processes of an earlier start"))?;
    mountns::remove(&own.mountns).map_err(Error::system("mounts of an earlier start"))?;
    files::remove_dir(&own.run)?;
    // The agent puts it there again when pods can have a network.
    files::remove_dir(&own.cni_conf())
}

fn make_mounts(own: &NodePaths, more: &[Mount]) -> Result<(), Error> {
    let mut binds: Vec<(PathBuf, PathBuf)> = Vec::new();
    for target in PRIVATE {
        let name = target.trim_start_matches('/').replace('/', "-");
        let source = own.run.join(name);
        files::make_dir(&source)?;
        files::make_dir(Path::new(target))?;
        binds.push((source, target.into()));
    }
    if fs::exists("/etc/resolv.conf").unwrap_or(false) {
        binds.push((own.resolv_conf(), "/etc/resolv.conf".into()));
    }
    for mount in more {
        for path in [&mount.machine_path, &mount.node_path] {
            fs::metadata(path).map_err(|error| Error::file("mount", path, error))?;
        }
    }
    let bind_all = || {
        for (source, target) in &binds {
            mountns::bind(source, target)?;
        }
        for mount in more {
            mountns::bind(&mount.machine_path, &mount.node_path)?;
            if mount.read_only {
                mountns::make_read_only(&mount.node_path)?;
            }
        }
        Ok(())
    };
    mountns::create(&own.mountns, bind_all).map_err(Error::system("the node's mount namespace"))
}
