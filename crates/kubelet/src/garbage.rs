//! What pods left behind when nobody was looking: folders, cgroups with or without processes, and tasks of
//! the runtime.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kernel::process::ProcessId;

use crate::context::Context;
use crate::tasks::{self, Task};
use crate::{sandbox, volumes};

const CGROUP_LIMIT: Duration = Duration::from_secs(1);

/// The uids that have something on the node.
#[derive(Debug, Default)]
pub(crate) struct Found {
    uids: BTreeSet<String>,
    logs: Vec<(String, PathBuf)>,
    tasks: Vec<Task>,
    /// Shims that serve nothing.
    shims: BTreeSet<ProcessId>,
}

/// Looks at the folders, cgroups and tasks of pods.
pub(crate) fn scan(ctx: &Context) -> Found {
    let mut found = Found::default();
    found.uids.extend(names(&ctx.config.pods_dir()));
    for name in names(&ctx.config.logs_dir()) {
        if let Some((_, uid)) = name.rsplit_once('_') {
            let path = ctx.config.logs_dir().join(&name);
            found.logs.push((uid.to_owned(), path));
            found.uids.insert(uid.to_owned());
        }
    }
    found.tasks = tasks::scan(&ctx.config);
    found.shims = tasks::strays(&ctx.config);
    found.uids.extend(found.tasks.iter().map(|task| task.uid.clone()));
    let cgroup = ctx.config.pods_cgroup();
    for hierarchy in ctx.hierarchies.iter() {
        let all = names(&hierarchy.root.join(cgroup.trim_start_matches('/')));
        found.uids.extend(
            all.iter()
                .filter_map(|n| n.strip_prefix("pod"))
                .map(str::to_owned),
        );
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    folders.filter_map(|e| e.file_name().into_string().ok()).collect()
}

impl Found {
    /// Leaves out what belongs to somebody.
    pub(crate) fn retain(&mut self, is_garbage: impl Fn(&str) -> bool) {
        self.uids.retain(|uid| is_garbage(uid));
        self.logs.retain(|(uid, _)| self.uids.contains(uid));
        self.tasks.retain(|task| self.uids.contains(&task.uid));
    }

    /// Leaves out shims that weren't there when was looked `before`: they may be about to end by themselves.
    /// Keeps there what was seen now.
    pub(crate) fn retain_shims(&mut self, before: &mut BTreeSet<ProcessId>) {
        let now = std::mem::take(&mut self.shims);
        self.shims = now.intersection(before).copied().collect();
        *before = now;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.shims.is_empty()
    }

    /// Removes it. What can't be removed now is found again later.
    pub(crate) fn remove(&self, ctx: &Context) {
        let warn = |what: &Path, result: std::io::Result<()>| {
            if let Err(error) = result {
                tracing::warn!(path = %what.display(), %error, "cannot remove what a pod left behind");
            }
        };
        let cgroup = |uid: &String| sandbox::cgroup(&ctx.config, uid);
        for cgroup in self.uids.iter().map(cgroup) {
            warn(
                Path::new(&cgroup),
                ctx.hierarchies.group(&cgroup).kill_all(CGROUP_LIMIT),
            );
        }
        for task in &self.tasks {
            tracing::info!(task = %task.dir.display(), "removing a task that is no pod's");
            warn(&task.dir, task.remove());
        }
        for shim in &self.shims {
            tracing::info!(pid = shim.pid, "ending a shim that serves nothing");
            warn(Path::new(&format!("/proc/{}", shim.pid)), tasks::kill(*shim));
        }
        for uid in &self.uids {
            let dir = ctx.pod_dir(uid);
            warn(&dir, volumes::remove_unmounted(&dir));
            let cgroup = cgroup(uid);
            warn(
                Path::new(&cgroup),
                ctx.hierarchies.group(&cgroup).remove(CGROUP_LIMIT),
            );
        }
        for (_, path) in &self.logs {
            warn(path, volumes::remove_unmounted(path));
        }
    }
}
