//! `ripstop node stop|start NODE`.

use supervisor::protocol::{Client, Request};
use supervisor::{ClusterName, Error, Paths, preflight};

use crate::args::Node;
use crate::failure::Failure;
use crate::output::out;
use crate::progress::Progress;

pub(crate) async fn run(command: Node) -> Result<(), Failure> {
    let (named, node, request, doing, done) = match command {
        Node::Stop(one) => {
            let request = Request::StopNode {
                node: one.node.clone(),
            };
            (
                one.named,
                one.node,
                request,
                "stopping",
                "has no power any more: `ripstop node start` gives it back",
            )
        }
        Node::Start(one) => {
            let request = Request::StartNode {
                node: one.node.clone(),
            };
            (
                one.named,
                one.node,
                request,
                "starting",
                "runs: `kubectl get nodes` shows when it is Ready",
            )
        }
    };
    let mut progress = Progress::new();
    let step = format!("{doing} {node}");
    progress.begin(&step);
    connect(&named.name, &request).await?.done().await?;
    progress.done(&step);
    drop(progress);
    out!("{node} {done}");
    Ok(())
}

/// Asks the supervisor of a running cluster.
pub(crate) async fn connect(name: &ClusterName, request: &Request) -> Result<Client, Failure> {
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    let paths = Paths::of(name);
    match Client::send(&paths.supervisor_socket(), request).await? {
        Some(client) => Ok(client),
        None => Err(absent(name).into()),
    }
}

/// Nobody answers: there is no such cluster, or it doesn't run.
pub(crate) fn absent(name: &ClusterName) -> Error {
    if Paths::of(name).cluster_file().exists() {
        Error::NotRunning(name.to_string())
    } else {
        Error::NoCluster(name.to_string())
    }
}
