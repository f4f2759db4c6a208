//! CNI ADD through the real plugin, as containerd calls it.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kernel::NetNs;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::figures::{Figures, Unit, quantile};

/// Fewer than a node has addresses: one that was given back rests for a while.
const COUNT: usize = 120;
const NODE: &str = "node-1";

/// Attaches and detaches one namespace after the other on a node.
pub(crate) async fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    let config = config(&cluster.node_data(NODE))?;
    let plugin = cluster.plugin();
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        let netns = NetNs::anonymous()?;
        let call = |command| call(&plugin, command, number, &netns, &config);
        let added = call("ADD");
        // Also what went wrong half-way is taken back.
        let deleted = call("DEL");
        adds.push(added?);
        dels.push(deleted?);
    }
    let note = format!("{COUNT} times, one after the other, the plugin's own start included");
    figures.add(
        "CNI ADD, median",
        quantile(&adds, 0.5),
        Unit::Millis,
        Some(10.0),
        note,
    );
    figures.add(
        "CNI ADD, 99 of 100",
        quantile(&adds, 0.99),
        Unit::Millis,
        None,
        String::new(),
    );
    figures.add(
        "CNI DEL, median",
        quantile(&dels, 0.5),
        Unit::Millis,
        None,
        String::new(),
    );
    Ok(())
}

/// What a runtime passes to the one plugin of the node's configuration.
fn config(node: &Path) -> Result<String> {
    let folder = node.join("cni/net.d");
    let files = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut lists = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conflist"));
    let path = lists
        .next()
        .with_context(|| format!("no conflist in {}", folder.display()))?;
    let list: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let mut plugin = list["plugins"][0].clone();
    for key in ["name", "cniVersion"] {
        plugin[key] = list[key].clone();
    }
    Ok(plugin.to_string())
}

/// Calls the plugin; how long it took, in milliseconds.
fn call(plugin: &Path, command: &str, number: usize, netns: &NetNs, config: &str) -> Result<f64> {
    // A path that leads to the same namespace from any mount namespace.
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
    let pod = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=bench-{number}");
    let begin = Instant::now();
    let mut child = Command::new(plugin)
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", format!("ripstop-bench-{number}"))
        .env("CNI_NETNS", path)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", pod)
        .env("CNI_PATH", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", plugin.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(config.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let took = begin.elapsed();
    if !output.status.success() {
        bail!(
            "{command} failed: {}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    Ok(took.as_secs_f64() * 1e3)
}
