//! The CNI protocol as a runtime speaks it, for Ripstop's plugin and others'.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kernel::NetNs;
use serde_json::Value;

use crate::known::Known;

/// A plugin and its configuration.
#[derive(Debug)]
pub(crate) struct Plugin {
    program: PathBuf,
    config: String,
    /// The namespace that it works on; this process' own if none.
    node: Option<Arc<NetNs>>,
}

/// What a pod is to CNI.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) netns: Arc<NetNs>,
    /// Also its container id, so it differs from all others'.
    pub(crate) name: String,
    /// What the API calls it, if the API has it.
    pub(crate) known: Option<Known>,
}

/// A pod that was attached, until it is dropped.
#[derive(Debug)]
pub(crate) struct Attached {
    plugin: Arc<Plugin>,
    pod: Pod,
    result: Value,
    detached: bool,
}

impl Plugin {
    /// A plugin by its program and its configuration, working on `node`.
    pub(crate) fn new(program: &Path, config: &Value, node: Option<Arc<NetNs>>) -> Arc<Self> {
        Arc::new(Self {
            program: program.to_owned(),
            config: config.to_string(),
            node,
        })
    }

    /// Calls it; what it answers and how long that took, its own start included.
    pub(crate) fn call(&self, command: &str, pod: &Pod) -> Result<(Value, Duration)> {
        match &self.node {
            Some(node) => node.run(|| self.call_here(command, pod))?,
            None => self.call_here(command, pod),
        }
    }

    fn call_here(&self, command: &str, pod: &Pod) -> Result<(Value, Duration)> {
        // A path that leads to the same namespace from any mount namespace.
        let netns = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            pod.netns.as_fd().as_raw_fd()
        );
        let folder = self.program.parent().unwrap_or(Path::new("/"));
        let begin = Instant::now();
        let mut child = Command::new(&self.program)
            .env_clear()
            // `bridge` and `ptp` call `host-local`, from here.
            .env("CNI_PATH", folder)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.name)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", pod.args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(self.config.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let took = begin.elapsed();
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{command} of {} failed: {}", self.program.display(), said.trim());
        }
        let result = match said.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).with_context(|| format!("{command} answered {text}"))?,
        };
        Ok((result, took))
    }

    /// ADD; its DEL comes when what is returned is dropped.
    pub(crate) fn attach(self: &Arc<Self>, pod: &Pod) -> Result<(Attached, Duration)> {
        // From here on also what went wrong half-way is taken back.
        let mut attached = Attached {
            plugin: Arc::clone(self),
            pod: pod.clone(),
            result: Value::Null,
            detached: false,
        };
        let (result, took) = self.call("ADD", pod)?;
        attached.result = result;
        Ok((attached, took))
    }
}

impl Pod {
    /// A pod with a namespace of its own.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Ok(Self {
            netns: Arc::new(NetNs::anonymous()?),
            name: format!("ripstop-bench-{name}"),
            known: None,
        })
    }

    /// A pod that the API has.
    pub(crate) fn of(known: &Known) -> Result<Self> {
        let pod = Self::new(&format!("{}-{}", known.namespace, known.name))?;
        let known = Some(known.clone());
        Ok(Self { known, ..pod })
    }

    fn args(&self) -> String {
        match &self.known {
            Some(known) => known.args(&self.name),
            None => "IgnoreUnknown=1".to_owned(),
        }
    }
}

impl Attached {
    /// The pod's first address.
    pub(crate) fn address(&self) -> Result<std::net::IpAddr> {
        address(&self.result)
    }

    /// DEL, now.
    pub(crate) fn detach(mut self) -> Result<()> {
        self.detached = true;
        self.plugin.call("DEL", &self.pod).map(drop)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if !self.detached
            && let Err(error) = self.plugin.call("DEL", &self.pod)
        {
            eprintln!("  {}: {error:#}", self.pod.name);
        }
    }
}

/// The first address of ADD's result.
fn address(result: &Value) -> Result<std::net::IpAddr> {
    let text = result["ips"][0]["address"].as_str().unwrap_or_default();
    let net: ipnet::IpNet = text
        .parse()
        .with_context(|| format!("the result of ADD has no address: {result}"))?;
    Ok(net.addr())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_address_is_the_first_of_the_result() {
        let result = json!({"ips": [{"address": "10.1.2.3/24"}, {"address": "fd00::3/64"}]});
        assert_eq!(address(&result).unwrap().to_string(), "10.1.2.3");
        assert!(address(&json!({"ips": []})).is_err());
        assert!(address(&json!({"ips": [{"address": "10.1.2.3"}]})).is_err());
    }
}
