//! `ripstop check`.

use std::sync::{Arc, Mutex};

use check::{Options, Outside};
use supervisor::{Cluster, Error, Paths, preflight};

use crate::api;
use crate::args::{Check, Output};
use crate::failure::Failure;
use crate::output::out;
use crate::progress::Progress;

pub(crate) async fn run(args: Check) -> Result<(), Failure> {
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    let name = &args.named.name;
    let paths = Paths::of(name);
    let cluster = Cluster::load(&paths)?.ok_or_else(|| Error::NoCluster(name.to_string()))?;
    let client = api::client(&paths).await?;
    // The machine is the outside that there always is. Without it, that check is left out.
    let mut outside = Vec::new();
    for ranges in cluster.ranges.iter() {
        outside.extend(Outside::listen(ranges.gateway().addr()).await);
    }
    let progress = Arc::new(Mutex::new(Progress::new()));
    let mut options = Options::default();
    options.outside = outside.iter().map(Outside::probe).collect();
    options.cluster = Some(name.to_string());
    options.progress = Some(tell(Arc::clone(&progress)));
    let result = check::run(client, options).await;
    drop(progress);
    let report = result.map_err(|error| {
        let cure = format!("`ripstop status --name {name}` shows how the cluster is");
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
