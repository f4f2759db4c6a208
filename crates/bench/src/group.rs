//! The control group of whoever asks: a switch from one group to another costs what the kernel counts for each
//! group on the way, so all that are compared ask from groups of one depth.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use kernel::cgroup::Hierarchies;

use crate::cluster::Cluster;

/// A group in cgroup2 alone: groups of version 1 give no real-time scheduling. It's removed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    /// What was made, the outermost first.
    made: Vec<PathBuf>,
}

impl Group {
    /// A pod's of a node, whose programs see its sockets.
    pub(crate) fn of_node(cluster: &Cluster, node: &str) -> Result<Self> {
        let node = root()?.join("ripstop").join(cluster.name()).join(node);
        Self::make(&node, &[&format!("bench-{}", number())])
    }

    /// Nobody's, as deep as a pod's.
    pub(crate) fn of_nobody() -> Result<Self> {
        let own = format!("ripstop-bench-{}-{}", std::process::id(), number());
        Self::make(&root()?, &[&own, "cluster", "node", "pod"])
    }

    fn make(above: &Path, names: &[&str]) -> Result<Self> {
        let mut group = Self { made: Vec::new() };
        let mut dir = above.to_owned();
        for name in names {
            dir.push(name);
            fs::create_dir(&dir).with_context(|| format!("make the cgroup {}", dir.display()))?;
            group.made.push(dir.clone());
        }
        Ok(group)
    }

    /// The file by which a process joins, by writing 0.
    pub(crate) fn door(&self) -> PathBuf {
        let innermost = self.made.last().map(PathBuf::as_path);
        innermost.unwrap_or(Path::new("")).join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in self.made.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}

fn root() -> Result<PathBuf> {
    let hierarchies = Hierarchies::detect()?;
    let mut unified = hierarchies.iter().filter(|hierarchy| hierarchy.unified);
    Ok(unified.next().context("there is no cgroup2")?.root.clone())
}

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
