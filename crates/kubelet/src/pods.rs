//! The node's pods: one worker each, fed from the API and from the runtime.
//!
//! ```text
//!   watch (spec.nodeName = this node) ──┐
//!                                       ├──► Pods ──messages──► Worker, one a pod
//!   relist of the runtime, each second ─┘
//! ```
//!
//! What the runtime has and a complete list of the API hasn't is an orphan and
//! is removed; while the API can't be read nothing is an orphan.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kernel::process::ProcessId;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

use crate::admit;
use crate::context::Context;
use crate::events::About;
use crate::garbage;
use crate::pod;
use crate::relist::{Seen, Snapshot, relist};
use crate::retry::Growing;
use crate::status::Failure;
use crate::worker::{Handle, Message, Worker};

/// How long a worker that panicked is left alone: it may do so again.
const AFTER_PANIC: Duration = Duration::from_secs(10);

/// Runs the node's pods until it is dropped; they go on without it.
pub(crate) async fn run(ctx: Arc<Context>) {
    let api: Api<Pod> = Api::all(ctx.client.clone());
    let selector = format!("spec.nodeName={}", ctx.config.node_name);
    let config = watcher::Config::default().fields(&selector);
    let events = watcher(api, config).backoff(Growing::for_watches());
    let (sender, snapshots) = mpsc::channel(1);
    let _relist = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(relist(Arc::clone(&ctx), sender)));
    let pods = Pods {
        ctx,
        workers: HashMap::new(),
        tasks: JoinSet::new(),
        by_task: HashMap::new(),
        finished: HashSet::new(),
        leaving: HashSet::new(),
        prints: HashMap::new(),
        listing: HashSet::new(),
        complete: false,
        looked: false,
        strays: BTreeSet::new(),
    };
    pods.run(events, snapshots).await;
}

struct Pods {
    ctx: Arc<Context>,
    workers: HashMap<String, Handle>,
    tasks: JoinSet<()>,
    by_task: HashMap<Id, String>,
    /// Pods that are removed here and that the API still has, or had when it
    /// was heard last.
    finished: HashSet<String>,
    /// Pods that the API doesn't have any more and that aren't removed here.
    leaving: HashSet<String>,
    /// What the last relist saw, by uid.
    prints: HashMap<String, u64>,
    /// The uids of a list that is coming in.
    listing: HashSet<String>,
    /// Everything that the API has for this node is known.
    complete: bool,
    /// Everything that the runtime has is known.
    looked: bool,
    /// Shims that seemed to serve nothing when was looked last.
    strays: BTreeSet<ProcessId>,
}

impl Pods {
    async fn run<S>(mut self, events: S, mut snapshots: mpsc::Receiver<Snapshot>)
    where
        S: Stream<Item = watcher::Result<Event<Pod>>>,
    {
        let mut events = std::pin::pin!(events);
        let mut garbage_timer =
            tokio::time::interval(Duration::from_secs(self.ctx.config.garbage_seconds.max(1)));
        let (scanned, mut scans) = mpsc::channel(1);
        loop {
            let knew = self.knows_all();
            tokio::select! {
                Some(event) = events.next() => match event {
                    Ok(event) => self.api_event(event),
                    Err(error) => tracing::debug!(%error, "the watch of pods is interrupted"),
                },
                Some(snapshot) = snapshots.recv() => self.relisted(snapshot),
                Some(done) = self.tasks.join_next_with_id() => self.worker_done(done),
                _ = garbage_timer.tick() => {
                    let (ctx, scanned) = (Arc::clone(&self.ctx), scanned.clone());
                    tokio::task::spawn_blocking(move || scanned.blocking_send(garbage::scan(&ctx)).ok());
                }
                Some(found) = scans.recv() => self.collect(found),
            }
            if self.knows_all() && !knew {
                // Whoever was killed before us may have left something in the middle of removing it.
                garbage_timer.reset_immediately();
            }
        }
    }

    /// Whether what is on the node belongs to a pod can be told.
    fn knows_all(&self) -> bool {
        self.complete && self.looked
    }

    fn api_event(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(pod) => {
                self.listing.insert(pod.metadata.uid.clone().unwrap_or_default());
                self.apply(pod);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                for (uid, worker) in &self.workers {
                    if !listed.contains(uid) && self.leaving.insert(uid.clone()) {
                        worker.send(Message::Gone(None));
                    }
                }
                self.finished.retain(|uid| listed.contains(uid));
                self.complete = true;
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                self.finished.remove(&uid);
                if let Some(worker) = self.workers.get(&uid) {
                    worker.send(Message::Gone(Some(Arc::new(slim(pod)))));
                    self.leaving.insert(uid);
                }
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let pod = Arc::new(slim(pod));
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if self.finished.contains(&uid) {
            return;
        }
        self.ctx.directory.put(&uid, Arc::clone(&pod));
        if let Some(worker) = self.workers.get(&uid) {
            worker.send(Message::Pod(pod));
            return;
        }
        let failure = self.admit(&uid, &pod);
        self.spawn(uid, pod, false, failure, Duration::ZERO);
    }

    fn admit(&self, uid: &str, pod: &Pod) -> Option<Failure> {
        if admit::was_admitted(pod) || self.prints.contains_key(uid) {
            return None;
        }
        let all = self.ctx.directory.all();
        // What the API has forgotten has nothing any more that others couldn't wait for.
        let is_leaving = |p: &Pod| {
            let uid = p.metadata.uid.as_deref();
            uid.is_some_and(|uid| self.leaving.contains(uid))
        };
        let active = all
            .iter()
            .filter(|p| p.metadata.uid != pod.metadata.uid && !pod::is_over(p) && !is_leaving(p));
        let active: Vec<&Pod> = active.map(|p| &**p).collect();
        let failure = admit::refuse(&self.ctx, pod, &active)?;
        let about = About::pod(pod);
        self.ctx
            .events
            .warning(&about, "FailedAdmission", failure.message.clone());
        Some(failure)
    }

    fn spawn(&mut self, uid: String, pod: Arc<Pod>, gone: bool, failure: Option<Failure>, after: Duration) {
        let (worker, handle) = Worker::new(Arc::clone(&self.ctx), pod, gone, failure);
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(after).await;
            worker.run().await;
        });
        self.by_task.insert(task.id(), uid.clone());
        if gone {
            self.leaving.insert(uid.clone());
        }
        self.workers.insert(uid, handle);
    }

    fn relisted(&mut self, snapshot: Snapshot) {
        for (uid, seen) in &snapshot {
            let known = self.prints.get(uid) == Some(&seen.print);
            match self.workers.get(uid) {
                Some(worker) if !known => {
                    worker.send(Message::Look);
                }
                Some(_) => {}
                None if self.complete => {
                    tracing::info!(pod = %seen.key, "removing a pod that the API doesn't have");
                    self.spawn(uid.clone(), Arc::new(orphan(seen)), true, None, Duration::ZERO);
                }
                None => {}
            }
        }
        for (uid, worker) in &self.workers {
            if worker.holds_something() && !snapshot.contains_key(uid) {
                worker.send(Message::Look);
            }
        }
        self.prints = snapshot
            .into_iter()
            .map(|(uid, seen)| (uid, seen.print))
            .collect();
        self.looked = true;
    }

    fn worker_done(&mut self, done: Result<(Id, ()), JoinError>) {
        let id = match &done {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(uid) = self.by_task.remove(&id) else {
            return;
        };
        self.workers.remove(&uid);
        let has_left = self.leaving.remove(&uid);
        let Err(error) = done else {
            if !has_left {
                // What the API still says of it may be on its way.
                self.finished.insert(uid);
            }
            return;
        };
        tracing::error!(%uid, %error, "a pod's worker panicked and is started anew");
        let all = self.ctx.directory.all();
        let pod = all.into_iter().find(|p| p.metadata.uid.as_deref() == Some(&uid));
        if let Some(pod) = pod {
            self.spawn(uid, pod, false, None, AFTER_PANIC);
        }
    }

    /// Removes what was found on the node and belongs to no pod.
    fn collect(&mut self, mut found: garbage::Found) {
        if !self.knows_all() {
            return;
        }
        found.retain_shims(&mut self.strays);
        found.retain(|uid| !self.workers.contains_key(uid) && !self.prints.contains_key(uid));
        if !found.is_empty() {
            let ctx = Arc::clone(&self.ctx);
            tokio::task::spawn_blocking(move || found.remove(&ctx));
        }
    }
}

/// What nobody here reads is the larger part of many objects.
fn slim(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    pod
}

/// A pod made up from what the runtime still has of it.
fn orphan(seen: &Seen) -> Pod {
    let containers = seen.containers.iter().map(|name| Container {
        name: name.clone(),
        ..Container::default()
    });
    Pod {
        metadata: ObjectMeta {
            name: Some(seen.key.name.clone()),
            namespace: Some(seen.key.namespace.clone()),
            uid: Some(seen.key.uid.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: containers.collect(),
            termination_grace_period_seconds: seen.grace,
            ..PodSpec::default()
        }),
        status: None,
    }
}
