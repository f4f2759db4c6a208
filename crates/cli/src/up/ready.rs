//! Waits until the nodes are Ready.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use supervisor::Paths;
use supervisor::protocol::{self, NodeState, Status};
use tokio::time::sleep;

use super::{ended, log_tail};
use crate::api::{self, NodeView, Readiness};
use crate::failure::Failure;
use crate::progress::seconds;

/// How long nodes may take to be Ready after all processes are up.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until every node that has power is Ready.
pub(super) async fn wait_ready(paths: &Paths) -> Result<(Status, Vec<NodeView>), Failure> {
    let client = api::client(paths).await?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = protocol::status(&paths.supervisor_socket()).await?;
        let status = status.ok_or_else(|| ended(paths))?;
        let views = api::nodes(&client).await;
        let Some((node, why)) = not_ready(&client, &status, &views).await else {
            return Ok((status, views.unwrap_or_default()));
        };
        if Instant::now() > deadline {
            let log = paths.log(&format!("agent {node}"));
            let what = format!("{node} isn't Ready after {}: {why}", seconds(LIMIT));
            let cure = format!("its log says more: {}", log.display());
            return Err(Failure::new(what, cure).with_context(log_tail(&log)));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The first node that has power and isn't Ready, and why.
async fn not_ready(
    client: &kube::Client,
    status: &Status,
    views: &Result<Vec<NodeView>, String>,
) -> Option<(String, String)> {
    let nodes = status
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Running);
    let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
    let views = match views {
        Ok(views) => views,
        Err(error) => return names.first().map(|name| ((*name).to_owned(), error.clone())),
    };
    for name in &names {
        let why = match views
            .iter()
            .find(|view| view.name == *name)
            .map(|view| &view.ready)
        {
            Some(Readiness::Ready) => continue,
            Some(Readiness::NotReady(why)) => why.clone(),
            None => "it hasn't registered".to_owned(),
        };
        return Some(((*name).to_owned(), why));
    }
    let alive = api::signs_of_life(client).await;
    let silent = names
        .into_iter()
        .find(|name| !has_reported(status, &alive, name))?;
    Some((
        silent.to_owned(),
        "its agent hasn't reported since it was started".to_owned(),
    ))
}

/// Whether the node has said that it is alive since its agent was started.
fn has_reported(status: &Status, alive: &BTreeMap<String, i64>, node: &str) -> bool {
    let agent = format!("agent {node}");
    let agent = status.processes.iter().find(|process| process.name == agent);
    let Some(since) = agent.and_then(|agent| i64::try_from(agent.since).ok()) else {
        return false;
    };
    alive.get(node).is_some_and(|renewed| *renewed >= since)
}

#[cfg(test)]
mod tests;
