//! Noticing what changes in the runtime by itself: one list a second says
//! which pods to look at.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cri::message::{ContainerState, PodSandboxState};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::pod::{PodKey, label};

/// What the runtime has of all pods, by uid, just enough to see differences.
pub(crate) type Snapshot = HashMap<String, Seen>;

/// One pod in a snapshot.
pub(crate) struct Seen {
    pub(crate) key: PodKey,
    /// Differs whenever a sandbox or container came, went or changed state.
    pub(crate) print: u64,
    /// The containers' names, for what has no object any more.
    pub(crate) containers: Vec<String>,
    /// What the pod's containers were promised to end in, in seconds.
    pub(crate) grace: Option<i64>,
}

/// Lists for as long as somebody listens. A runtime that is away is no news.
pub(crate) async fn relist(ctx: Arc<Context>, snapshots: mpsc::Sender<Snapshot>) {
    let mut ticks = tokio::time::interval(ctx.config.relist());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(snapshot) = look(&ctx).await else {
            continue;
        };
        if snapshots.send(snapshot).await.is_err() {
            return;
        }
    }
}

async fn look(ctx: &Context) -> Result<Snapshot, cri::Error> {
    let (sandboxes, containers) = tokio::try_join!(
        ctx.cri.list_pod_sandbox(Default::default()),
        ctx.cri.list_containers(Default::default())
    )?;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let ready = sandboxes
        .iter()
        .filter(|s| s.state() == PodSandboxState::Ready)
        .count();
    let running = containers
        .iter()
        .filter(|c| c.state() == ContainerState::Running)
        .count();
    ctx.metrics.pods.store(count(ready), Ordering::Relaxed);
    ctx.metrics.containers.store(count(running), Ordering::Relaxed);

    let mut found: HashMap<String, Found> = HashMap::new();
    for sandbox in sandboxes {
        found.entry_of(&sandbox.labels, |f| {
            f.things.push((sandbox.id, sandbox.state));
        });
    }
    for container in containers {
        found.entry_of(&container.labels, |f| {
            f.things.push((container.id, container.state));
            f.containers
                .extend(container.labels.get(label::CONTAINER_NAME).cloned());
            let grace = container
                .annotations
                .get(label::GRACE)
                .and_then(|g| g.parse().ok());
            f.grace = f.grace.max(grace);
        });
    }
    let seen = found.into_iter().map(|(uid, found)| (uid, found.seen()));
    Ok(seen.collect())
}

struct Found {
    key: PodKey,
    things: Vec<(String, i32)>,
    containers: Vec<String>,
    grace: Option<i64>,
}

impl Found {
    fn seen(mut self) -> Seen {
        self.things.sort();
        let mut hasher = DefaultHasher::new();
        self.things.hash(&mut hasher);
        self.containers.sort();
        self.containers.dedup();
        Seen {
            key: self.key,
            print: hasher.finish(),
            containers: self.containers,
            grace: self.grace,
        }
    }
}

trait ByPod {
    /// Files something under its pod. What isn't a pod's isn't ours.
    fn entry_of(&mut self, labels: &BTreeMap<String, String>, file: impl FnOnce(&mut Found));
}

impl ByPod for HashMap<String, Found> {
    fn entry_of(&mut self, labels: &BTreeMap<String, String>, file: impl FnOnce(&mut Found)) {
        let Some(uid) = labels.get(label::POD_UID) else {
            return;
        };
        let text = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let found = self.entry(uid.clone()).or_insert_with(|| Found {
            key: PodKey {
                namespace: text(label::POD_NAMESPACE),
                name: text(label::POD_NAME),
                uid: uid.clone(),
            },
            things: Vec::new(),
            containers: Vec::new(),
            grace: None,
        });
        file(found);
    }
}
