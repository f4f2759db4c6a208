//! `ripstop check`.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use check::{Options, Outside, Vantage};
use kernel::netns::NETNS_DIR;
use kube::Client;
use supervisor::cluster::Node;
use supervisor::resolver::Resolver;
use supervisor::{Cluster, Error, Paths, preflight};

use crate::api;
use crate::args::{Check, Named, Output};
use crate::failure::Failure;
use crate::output::out;
use crate::progress::Progress;

pub(crate) async fn run(args: Check) -> Result<(), Failure> {
    let (client, mut options, outside) = match &args.kubeconfig {
        Some(path) => {
            let cure = "--kubeconfig names a file as `kubectl config view --raw` prints it";
            (api::client_of(path, cure).await?, Options::default(), Vec::new())
        }
        None => embedded(&args.named).await?,
    };
    let progress = Arc::new(Mutex::new(Progress::new()));
    options.image = args.image;
    options.progress = Some(tell(Arc::clone(&progress)));
    let result = check::run(client, options).await;
    drop((progress, outside));
    let report = result.map_err(|error| {
        let cure = match args.kubeconfig {
            Some(_) => "`kubectl get nodes` with that kubeconfig shows how the cluster is".to_owned(),
            None => format!(
                "`ripstop status --name {}` shows how the cluster is",
                args.named.name
            ),
        };
        Failure::new(error, cure)
    })?;
    match args.output {
        Output::Table => out!("{}", report.to_string().trim_end()),
        Output::Json => out!(
            "{:#}",
            serde_json::to_value(&report).expect("a report becomes JSON")
        ),
    }
    if report.passed() {
        return Ok(());
    }
    let (_, failed, _) = report.counts();
    Err(Failure::new(
        format!("{failed} of the checks failed"),
        "the lines marked → say where to look",
    ))
}

/// An embedded cluster, and what this machine can do for its check; what listens does until it is
/// dropped.
async fn embedded(named: &Named) -> Result<(Client, Options, Vec<Outside>), Failure> {
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    let paths = Paths::of(&named.name);
    let cluster = Cluster::load(&paths)?.ok_or_else(|| Error::NoCluster(named.name.to_string()))?;
    // The machine is the outside that there always is. Without it, that check is left out.
    let mut outside = Vec::new();
    for ranges in cluster.ranges.iter() {
        outside.extend(Outside::listen(ranges.gateway().addr()).await);
    }
    let mut options = Options::default();
    options.outside = outside.iter().map(Outside::probe).collect();
    options.vantages = vantages(&cluster);
    if let Some(note) = Resolver::of_machine(&cluster.ranges).note {
        options.outside_name = Err(note);
    }
    options.cluster = Some(named.name.to_string());
    Ok((api::client(&paths).await?, options, outside))
}

/// The cluster's ends that are namespaces here.
fn vantages(cluster: &Cluster) -> Vec<Vantage> {
    let vantage = |name: &str, addresses: Vec<IpAddr>, netns: &str| Vantage {
        name: name.to_owned(),
        addresses,
        netns: Path::new(NETNS_DIR).join(netns),
    };
    let server = cluster.ranges.iter().map(|ranges| ranges.server()).collect();
    let server = vantage(check::API_SERVER, server, &cluster.name.switch_netns());
    let node = |node: &Node| {
        vantage(
            &node.name,
            node.addresses.clone(),
            &cluster.name.node_netns(&node.name),
        )
    };
    [server]
        .into_iter()
        .chain(cluster.nodes.iter().map(node))
        .collect()
}

/// Each thing that is told ends the one before.
fn tell(progress: Arc<Mutex<Progress>>) -> check::Progress {
    let last = Mutex::new(None::<String>);
    Arc::new(move |what: &str| {
        let mut progress = progress.lock().expect("nobody panics while showing progress");
        let mut last = last.lock().expect("nobody panics while showing progress");
        if let Some(last) = last.replace(what.to_owned()) {
            progress.done(&last);
        }
        progress.begin(what);
    })
}
