//! `ripstop image load FILE…`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use supervisor::preflight::Problem;
use supervisor::protocol::{NodeState, Status};
use supervisor::{Cluster, ClusterName, Error, Paths, images, preflight, protocol};
use tokio::task::JoinSet;

use crate::args::Image;
use crate::failure::Failure;
use crate::node::absent;
use crate::output::out;
use crate::progress::Progress;

pub(crate) async fn run(command: Image) -> Result<(), Failure> {
    let Image::Load { named, files } = command;
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    let files = check_files(files)?;
    load(&named.name, &files).await
}

/// Refuses what can't be an archive before any node is bothered.
fn check_files(files: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let mut problems = Vec::new();
    for file in &files {
        let reason = match std::fs::metadata(file) {
            Err(error) => error.to_string(),
            Ok(meta) if !meta.is_file() => "not a file".to_owned(),
            Ok(meta) if meta.len() == 0 => "it is empty".to_owned(),
            Ok(_) => continue,
        };
        problems.push(Problem {
            what: format!("{}: {reason}", file.display()),
            cure: "`docker save -o FILE IMAGE` makes an archive".to_owned(),
            fatal: true,
        });
    }
    if problems.is_empty() {
        Ok(files)
    } else {
        Err(Failure::several(problems))
    }
}

async fn load(name: &ClusterName, files: &[PathBuf]) -> Result<(), Failure> {
    let paths = Arc::new(Paths::of(name));
    let Some(status) = protocol::status(&paths.supervisor_socket()).await? else {
        return Err(absent(name).into());
    };
    let cluster = Arc::new(Cluster::load(&paths)?.ok_or_else(|| Error::NoCluster(name.to_string()))?);
    let mut progress = Progress::new();
    let mut work = JoinSet::new();
    for file in files {
        for node in running(&status) {
            let step = format!("{} on {node}", file.display());
            progress.begin(&step);
            let (cluster, paths, file) = (Arc::clone(&cluster), Arc::clone(&paths), file.clone());
            work.spawn(async move {
                let result = images::load(&cluster, &paths, &node, &file).await;
                (step, result)
            });
        }
    }
    let mut failures: BTreeMap<(PathBuf, String), Vec<String>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    while let Some(result) = work.join_next().await {
        let (step, result) = result.expect("loading doesn't panic");
        match result {
            Ok(found) => {
                names.extend(found);
                progress.done(&step);
            }
            Err(Error::Images {
                archive,
                node,
                reason,
            }) => {
                failures.entry((archive, reason)).or_default().push(node);
            }
            Err(error) => return Err(error.into()),
        }
    }
    drop(progress);
    for name in names {
        out!("{name}");
    }
    report(failures)
}

/// A broken archive is broken for every node: one line.
fn report(failures: BTreeMap<(PathBuf, String), Vec<String>>) -> Result<(), Failure> {
    if failures.is_empty() {
        return Ok(());
    }
    let problems = failures.into_iter().map(|((archive, reason), mut nodes)| {
        nodes.sort();
        let node = nodes.join(", ");
        let error = Error::Images {
            archive,
            node,
            reason,
        };
        Problem {
            what: error.to_string(),
            cure: error.cure(),
            fatal: true,
        }
    });
    Err(Failure::several(problems.collect()))
}

/// Nodes with power; the others have nothing to load into.
fn running(status: &Status) -> impl Iterator<Item = String> {
    let nodes = status
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Running);
    nodes.map(|node| node.name.clone())
}
