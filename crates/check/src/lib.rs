//! `ripstop check`: proves what a cluster's network promises, with real pods.
//!
//! ```text
//! run ─► Namespace ripstop-check-XXXXX, pods on every node (deploy)
//!         │
//!        Lab: places to ask from, addresses to ask for
//!         │
//!        CHECKS, each `async fn(&Lab) -> Vec<Row>`, at once (checks)
//!         │          └─ commands in pods, through the API's exec (shell)
//!        Report: rows of ✓, ✗ and –, each ✗ with its cause and the next step
//! ```
//!
//! It speaks to the cluster through the public API alone, so it runs against
//! any Kubernetes. The namespace is deleted whatever happens: errors, time-outs
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
mod pods;
mod policies;
mod report;
mod services;
mod shell;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use error::Error;
pub use outside::{Outside, OutsideProbe};
pub use report::{Outcome, Report, Row};

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
    let create = namespace::Namespace::create(&client);
    let namespace = tokio::time::timeout(FIRST_ANSWER, create).await;
    let namespace = namespace.map_err(|_| Error::NoAnswer(FIRST_ANSWER))??;
    options.tell("deploying pods");
    let work = async {
        let lab = deploy::deploy(&client, namespace.name(), &options).await?;
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
    rows.extend(policies::rows(&client).await);
    rows.extend(cleaned);
    Ok(Report {
        image: options.image,
        seconds: begin.elapsed().as_secs_f64(),
        rows,
    })
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
