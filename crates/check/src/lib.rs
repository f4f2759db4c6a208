//! `ripstop check`: proves what a cluster's network promises, with real pods.
//!
//! ```text
//! run ─► paths between nodes that are namespaces of this machine (vantage)
//!         │
//!        Namespace ripstop-check-XXXXX, pods on every node (deploy)
//!         │
//!        Lab: places to ask from, addresses to ask for
//!         │
//!        CHECKS, each `async fn(&Lab) -> Vec<Row>`, at once (checks)
//!         │          └─ commands in pods, through the API's exec (shell)
//!        Report: rows of ✓, ✗ and –, each ✗ with its cause and the next step
//! ```
//!
//! It speaks to the cluster through the public API alone, so it runs against
//! any Kubernetes; where nodes aren't namespaces of this machine, pods in their
//! own networks measure the paths between them. The namespace is deleted whatever happens: errors, time-outs
//! and Ctrl-C included; what a run that was killed left is swept by the next.
//!
//! A check is an entry in `checks::CHECKS`; each of them stays a page of code.

mod addresses;
mod ask;
mod checks;
mod deploy;
mod dns;
mod error;
mod isolation;
mod lab;
mod mtu;
mod namespace;
mod outside;
mod paths;
mod pods;
mod policies;
mod report;
mod services;
mod shell;
mod vantage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use error::Error;
pub use outside::{Outside, OutsideProbe};
pub use paths::API_SERVER;
pub use report::{Outcome, Report, Row};
pub use vantage::Vantage;

/// An API that works answers its first question well within this.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Told what is being done, a line at a time.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What to check, and with what.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The image that the pods run; it must hold `toolbox`.
    pub image: String,
    /// How long everything may take before it is given up and cleaned up.
    pub timeout: Duration,
    /// Listeners outside the cluster ([`Outside::listen`] makes one), one of
    /// each family, for the check that pods reach the outside under their
    /// node's address.
    pub outside: Vec<OutsideProbe>,
    /// A name outside the cluster that pods are to find if this machine does; or why none is asked for.
    pub outside_name: Result<String, String>,
    /// Nodes, and the API server, that are network namespaces of this machine: paths between them are
    /// measured first, without any pod. Otherwise pods in the nodes' own networks do.
    pub vantages: Vec<Vantage>,
    /// The name of an embedded cluster, which makes the next steps exact.
    pub cluster: Option<String>,
    /// At most this many nodes take part: pairs grow with the square.
    pub most_nodes: usize,
    /// Where progress is told.
    pub progress: Option<Progress>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            image: "localhost/ripstop/toolbox:1".to_owned(),
            timeout: Duration::from_secs(90),
            outside: Vec::new(),
            // Reserved for uses such as this one (RFC 2606), and there.
            outside_name: Ok("example.com".to_owned()),
            vantages: Vec::new(),
            cluster: None,
            most_nodes: 8,
            progress: None,
        }
    }
}

impl Options {
    fn tell(&self, what: &str) {
        tracing::debug!("{what}");
        if let Some(progress) = &self.progress {
            progress(what);
        }
    }
}

/// Checks a cluster's network. A report with ✗ in it is a success of this
/// function: see [`Report::passed`].
///
/// # Errors
/// When there can be no report: the API doesn't answer or refuses, no node is
/// there, time ran out, or a signal ended it. The namespace is gone by then.
pub async fn run(client: Client, options: Options) -> Result<Report, Error> {
    let begin = Instant::now();
    let mut signals = Signals::listen();
    // Where large packets are lost, much of the rest fails, and none of it says why.
    if !options.vantages.is_empty() {
        options.tell("measuring the paths between nodes");
    }
    let paths = vantage::measure(options.vantages.clone()).await;
    let mut rows = paths::rows(&paths, options.cluster.as_deref());
    match with_pods(&client, &options, &paths, &mut signals).await {
        Ok(more) => rows.extend(more),
        Err(error @ (Error::Interrupted | Error::Outside { .. })) => return Err(error),
        Err(error) if !rows.iter().any(Row::is_failure) => return Err(error),
        Err(error) => rows.push(Row::failed("everything else", "", error.to_string(), MEND_FIRST)),
    }
    Ok(Report {
        image: options.image,
        seconds: begin.elapsed().as_secs_f64(),
        rows: blame(rows),
    })
}

const MEND_FIRST: &str = "mend what is ✗ above first: it breaks connections to the API, too";

/// What pods find out, and what there is to say about the cluster's objects.
async fn with_pods(
    client: &Client,
    options: &Options,
    paths: &[paths::Path],
    signals: &mut Signals,
) -> Result<Vec<Row>, Error> {
    let create = namespace::Namespace::create(client);
    let namespace = tokio::time::timeout(FIRST_ANSWER, create).await;
    let namespace = namespace.map_err(|_| Error::NoAnswer(FIRST_ANSWER))??;
    options.tell("deploying pods");
    let work = async {
        let lab = deploy::deploy(client, namespace.name(), options, paths).await?;
        options.tell("asking from every pod to every other");
        Ok(checks::run(&lab).await)
    };
    let outcome = tokio::select! {
        done = tokio::time::timeout(options.timeout, work) => {
            done.unwrap_or(Err(Error::TimedOut(options.timeout)))
        }
        () = signals.received() => Err(Error::Interrupted),
    };
    options.tell("cleaning up");
    let cleaned = namespace.delete(Duration::from_secs(20)).await;
    let mut rows = outcome?;
    rows.extend(policies::rows(client).await);
    rows.extend(cleaned);
    Ok(rows)
}

/// Puts the paths between nodes first, and says of pods that don't start that these may be why.
fn blame(mut rows: Vec<Row>) -> Vec<Row> {
    let lossy = paths::ends_of_losses(&rows);
    for row in &mut rows {
        if let Outcome::Failed { next, .. } = &mut row.outcome
            && row.check == checks::START
            && lossy.contains(&row.path)
        {
            *next = format!(
                "mend `{}` first: large packets to or from {} are lost, its agent's own to the API, too; {next}",
                paths::NODES,
                row.path
            );
        }
    }
    rows.sort_by_key(|row| row.check != paths::NODES);
    rows
}

/// Ctrl-C and SIGTERM, caught from the moment this is made: before there is
/// anything to clean up.
struct Signals([Option<Signal>; 2]);

impl Signals {
    fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        Self(kinds.map(|kind| signal(kind).ok()))
    }

    /// Waits for either; for ever where they can't be caught.
    async fn received(&mut self) {
        let caught = self.0.iter_mut().flatten();
        let waits: Vec<_> = caught.map(|signal| Box::pin(signal.recv())).collect();
        if waits.is_empty() {
            std::future::pending::<()>().await;
        }
        futures::future::select_all(waits).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_do_not_start_are_put_down_to_the_path_that_loses_packets() {
        let lost = "packets of more than 1300 bytes are lost without a word: eth0 on node-1 sends up to 1500";
        let rows = blame(vec![
            Row::failed(checks::START, "node-2", "pod-1 doesn't run", "look there"),
            Row::failed(checks::START, "node-3", "pod-2 doesn't run", "look there"),
            Row::failed(paths::NODES, "node-1 → node-2", lost, "set it"),
        ]);
        assert_eq!(rows[0].check, paths::NODES, "the cause comes first");
        let text = rows[1..].iter().map(|row| format!("{row:?}"));
        let blamed: Vec<bool> = text
            .map(|text| text.contains("mend `path MTU between nodes` first"))
            .collect();
        assert_eq!(blamed, [true, false]);
    }
}
