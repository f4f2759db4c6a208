//! `ripstop status` and `ripstop logs`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use supervisor::protocol::{self, NodeState, Phase, ProcessState, Status};
use supervisor::{Paths, log, preflight};

use crate::api::{self, NodeView, Readiness};
use crate::args::{Logs, Output};
use crate::failure::Failure;
use crate::node::absent;
use crate::output::out;
use crate::table;

pub(crate) async fn run(args: crate::args::Status) -> Result<(), Failure> {
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    let paths = Paths::of(&args.named.name);
    let Some(status) = protocol::status(&paths.supervisor_socket()).await? else {
        if args.output == Output::Json {
            out!(
                "{}",
                json!({"name": args.named.name, "phase": "stopped", "nodes": [], "processes": []})
            );
        }
        return Err(absent(&args.named.name).into());
    };
    let nodes = match api::client(&paths).await {
        Ok(client) => api::nodes(&client).await,
        Err(_) => Err("there is no kubeconfig".to_owned()),
    };
    match args.output {
        Output::Json => out!("{:#}", as_json(&status, &nodes)),
        Output::Table => print_tables(&status, &nodes),
    }
    Ok(())
}

/// What `-o json` prints: the supervisor's view, and of each node the API's.
fn as_json(status: &Status, views: &Result<Vec<NodeView>, String>) -> Value {
    let mut value = serde_json::to_value(status).expect("plain data becomes JSON");
    let nodes = value["nodes"].as_array_mut().into_iter().flatten();
    for node in nodes {
        let view = find(views, node["name"].as_str().unwrap_or_default());
        node["ready"] = view.map(|view| view.ready == Readiness::Ready).into();
        let cidrs = view.map(|view| view.pod_cidrs.clone()).unwrap_or_default();
        node["podCIDR"] = cidrs.first().cloned().into();
        node["podCIDRs"] = cidrs.into();
        node["kubeletVersion"] = view.and_then(|view| view.version.clone()).into();
    }
    if let Err(error) = views {
        value["apiError"] = error.clone().into();
    }
    value
}

fn find<'a>(views: &'a Result<Vec<NodeView>, String>, name: &str) -> Option<&'a NodeView> {
    views.as_ref().ok()?.iter().find(|view| view.name == name)
}

/// The nodes, as after `up`.
pub(crate) fn node_table(status: &Status, views: &Result<Vec<NodeView>, String>) -> String {
    let row = |node: &protocol::NodeStatus| {
        let view = find(views, &node.name);
        let ready = match (node.state, view) {
            (NodeState::Stopped, _) => "stopped".to_owned(),
            (NodeState::Running, Some(view)) => view.ready.text().to_owned(),
            (NodeState::Running, None) => "unknown".to_owned(),
        };
        let known = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or("-".to_owned());
        [
            node.name.clone(),
            ready,
            node.addresses.join(","),
            known(view.map(|view| view.pod_cidrs.join(","))),
            known(view.and_then(|view| view.version.clone())),
        ]
    };
    let rows = status.nodes.iter().map(row).collect();
    table::render(["NODE", "STATUS", "ADDRESS", "POD CIDR", "VERSION"], rows)
}

fn print_tables(status: &Status, views: &Result<Vec<NodeView>, String>) {
    let phase = match status.phase {
        Phase::Starting => "is starting",
        Phase::Running => "is running",
        Phase::Failed => "failed to start",
        Phase::Stopping => "is being taken out",
    };
    out!(
        "cluster {} {phase}, {}, API at {}, pod network {}\n",
        status.name,
        status.ip_family,
        status.server,
        status.pod_network
    );
    out!("{}\n", node_table(status, views));
    out!("{}", process_table(status, now()));
    if let Err(error) = views {
        out!("\nthe API doesn't tell about nodes: {error}");
    }
    for view in views.iter().flatten() {
        if let Readiness::NotReady(why) = &view.ready {
            out!("\n{} isn't Ready: {why}", view.name);
        }
    }
    for note in &status.notes {
        out!("\nnote: {note}");
    }
}

fn process_table(status: &Status, now: u64) -> String {
    let row = |process: &protocol::ProcessStatus| {
        let state = match process.state {
            ProcessState::Running => "running",
            ProcessState::Waiting => "restarting",
            ProcessState::Stopped => "stopped",
        };
        [
            process.name.clone(),
            process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            state.to_owned(),
            process.restarts.to_string(),
            table::age(now.saturating_sub(process.since)),
            process.last_end.clone().unwrap_or_default(),
        ]
    };
    let rows = status.processes.iter().map(row).collect();
    table::render(["PROCESS", "PID", "STATE", "RESTARTS", "SINCE", "LAST END"], rows)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// `ripstop logs PROCESS`.
pub(crate) fn logs(args: &Logs) -> Result<(), Failure> {
    let paths = Paths::of(&args.named.name);
    let path = paths.log(&args.process.join(" "));
    if !path.exists() {
        let known = std::fs::read_dir(paths.logs()).into_iter().flatten().flatten();
        let mut known: Vec<String> = known
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".log")?.to_owned()))
            .collect();
        known.sort();
        if known.is_empty() {
            return Err(absent(&args.named.name).into());
        }
        let what = format!("there is no log of {:?}", args.process.join(" "));
        return Err(Failure::usage(what, format!("there are {}", known.join(", "))));
    }
    for line in log::tail(&path, args.lines)? {
        out!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
