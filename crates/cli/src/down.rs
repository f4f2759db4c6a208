//! `ripstop down`.

use std::cell::RefCell;
use std::time::Instant;

use supervisor::{Paths, preflight, teardown};

use crate::args::Down;
use crate::failure::Failure;
use crate::kubeconfig;
use crate::lock::Lock;
use crate::output::{note, out};
use crate::progress::{Progress, seconds};

pub(crate) async fn run(args: Down) -> Result<(), Failure> {
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    let name = &args.named.name;
    let _lock = Lock::of(name).await?;
    let start = Instant::now();
    let there = teardown::exists(name);
    for warning in kubeconfig::remove(name, &Paths::of(name)) {
        note!("warning: {warning}");
    }
    if !there {
        out!("there is no cluster {name}: nothing to do");
        return Ok(());
    }
    take_out(name, args.keep_data).await?;
    let took = seconds(start.elapsed());
    if args.keep_data {
        out!(
            "cluster {name} is stopped ({took}); its data is kept: `ripstop up --name {name}` brings it back"
        );
    } else {
        out!("cluster {name} is gone ({took})");
    }
    Ok(())
}

/// Takes everything out, showing how far it is.
pub(crate) async fn take_out(name: &supervisor::ClusterName, keep_data: bool) -> Result<(), Failure> {
    let progress = RefCell::new(Progress::new());
    let last: RefCell<Option<String>> = RefCell::new(None);
    let show = |step: &str| {
        let mut progress = progress.borrow_mut();
        if let Some(last) = last.borrow_mut().replace(step.to_owned()) {
            progress.done(&last);
        }
        progress.begin(step);
    };
    let result = teardown::down(name, teardown::Options { keep_data }, show).await;
    if let Some(last) = last.borrow_mut().take() {
        progress.borrow_mut().done(&last);
    }
    result.map_err(|left| {
        let what = format!("not everything of cluster {name} could be removed");
        Failure::new(
            what,
            format!("see above, and run `ripstop down --name {name}` again"),
        )
        .with_context(left)
    })
}
