//! One pod's life on the node: a task with a small state machine.
//!
//! ```text
//!   Active ──deleted, or past its deadline──► Stopping ──nothing runs──► Removing ──► gone
//!      │                                         │
//!      └──every container ended for good──► Ended ◄┘ (not deleted)
//!                                             └──deleted──► Removing
//! ```
//!
//! Each step looks at what the runtime has, decides, and begins jobs; jobs run
//! beside the loop, so that a slow pull or hook holds up nothing else and a
//! deletion is heard at once. Nothing the loop remembers is needed to go on
//! after a restart: that is all in the runtime and in the API.

mod active;
mod cleanup;
mod ending;
mod jobs;
mod publish;
mod retries;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::jobs::{Done, Job};
use self::publish::Publisher;
use self::retries::Retries;
use crate::backoff::CrashBackoff;
use crate::context::Context;
use crate::decide::Waiting;
use crate::events::About;
use crate::objects::PodObjects;
use crate::pod::{self, PodKey};
use crate::probe::{Prober, Verdict};
use crate::runtime::{Observed, Observer};
use crate::status::{Facts, Failure, addresses, pod_status};
use crate::volumes::PodVolumes;
use crate::{last_words, references, storage};

/// Something happened that the pod's worker should know.
#[derive(Debug)]
pub(crate) enum Message {
    /// The pod's object, as the API has it now.
    Pod(Arc<Pod>),
    /// The pod's object isn't in the API any more; this was its last state.
    Gone(Option<Arc<Pod>>),
    /// The runtime has something new about the pod.
    Look,
    /// A probe has a new verdict.
    Verdict(Verdict),
    /// One of the pod's ConfigMaps or Secrets changed.
    Objects,
    /// The pod takes more of the node than it may: of what.
    Evict(String),
}

/// Where the pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Containers are started and kept as the restart policy says.
    Active,
    /// What runs is being stopped.
    Stopping { since: Timestamp, grace: Duration },
    /// Nothing runs any more; logs stay until the pod is deleted.
    Ended,
    /// All traces are being removed.
    Removing,
    /// Nothing is left to do.
    Gone,
}

/// A worker as the others see it.
pub(crate) struct Handle {
    messages: mpsc::UnboundedSender<Message>,
    holds: Arc<AtomicBool>,
}

impl Handle {
    /// Tells it something. One that is done has no use for it.
    pub(crate) fn send(&self, message: Message) {
        self.messages.send(message).ok();
    }

    /// When the worker looked last, the runtime had something of the pod. A list that has nothing of it then is
    /// news, also if no list ever had: the runtime may have come and forgotten between two of them.
    pub(crate) fn holds_something(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }
}

/// A pod's worker.
pub(crate) struct Worker {
    ctx: Arc<Context>,
    key: PodKey,
    pod: Arc<Pod>,
    /// The API doesn't have the pod (any more).
    gone: bool,
    /// Nobody waits for the grace period to pass.
    forced: bool,
    phase: Phase,
    failure: Option<Failure>,
    /// Why the pod must go at once.
    eviction: Option<String>,
    messages: mpsc::UnboundedReceiver<Message>,
    /// For messages to itself.
    sender: mpsc::UnboundedSender<Message>,
    observer: Observer,
    observed: Observed,
    /// Something was observed: for the handle.
    holds: Arc<AtomicBool>,
    prober: Prober,
    backoff: CrashBackoff,
    retries: Retries,
    /// What was said of the pod's rates, so as not to say it again.
    said_of_rates: Option<String>,
    /// Containers that wait out a crash back-off.
    held: BTreeMap<String, Waiting>,
    jobs: JoinSet<Done>,
    busy: BTreeSet<Job>,
    /// Aborts of running kills, for when there is less time than was thought.
    kills: HashMap<String, tokio::task::AbortHandle>,
    /// Ends whatever waits on behalf of a start.
    cancel: CancellationToken,
    objects: PodObjects,
    volumes: Arc<Mutex<PodVolumes>>,
    volumes_ready: bool,
    volumes_renew_at: Option<Timestamp>,
    /// They are to be set up once more when that is done.
    volumes_stale: bool,
    last_words: HashMap<String, String>,
    publisher: Publisher,
    again_at: Option<Timestamp>,
    followers: JoinSet<()>,
}

impl Worker {
    /// The worker of a pod, and the others' handle on it. `gone` is for what
    /// was found in the runtime and isn't in the API.
    pub(crate) fn new(
        ctx: Arc<Context>,
        pod: Arc<Pod>,
        gone: bool,
        failure: Option<Failure>,
    ) -> (Self, Handle) {
        let (sender, messages) = mpsc::unbounded_channel();
        let key = PodKey::of(&pod);
        let over = failure.is_some() || pod::is_over(&pod);
        let failure = failure.or_else(|| failed_before(&pod));
        let objects = if gone || over {
            PodObjects::default()
        } else {
            PodObjects::follow(&ctx.objects, &key.namespace, references::of(&pod))
        };
        let mut followers = JoinSet::new();
        for object in objects.iter() {
            follow(&mut followers, object, &sender);
        }
        let report = {
            let sender = sender.clone();
            Arc::new(move |verdict| {
                sender.send(Message::Verdict(verdict)).ok();
            })
        };
        let mut worker = Self {
            prober: Prober::new(ctx.cri.clone(), ctx.events.clone(), report),
            volumes: Arc::new(Mutex::new(PodVolumes::new(ctx.pod_dir(&key.uid)))),
            publisher: Publisher::new(Arc::clone(&ctx), &pod),
            observer: Observer::new(&ctx.config.node_ips),
            phase: if over { Phase::Ended } else { Phase::Active },
            failure,
            eviction: None,
            ctx,
            key,
            pod,
            gone,
            forced: false,
            messages,
            sender: sender.clone(),
            observed: Observed::default(),
            holds: Arc::default(),
            backoff: CrashBackoff::default(),
            retries: Retries::default(),
            said_of_rates: None,
            held: BTreeMap::new(),
            jobs: JoinSet::new(),
            busy: BTreeSet::new(),
            kills: HashMap::new(),
            cancel: CancellationToken::new(),
            objects,
            // Whatever a pod that is over had may still be there.
            volumes_ready: over,
            volumes_renew_at: None,
            volumes_stale: false,
            last_words: HashMap::new(),
            again_at: None,
            followers,
        };
        if gone {
            worker.publisher.stop();
        }
        if worker.phase == Phase::Active {
            let exceeded = storage::exceeded(Arc::clone(&worker.ctx), Arc::clone(&worker.pod));
            let sender = sender.clone();
            worker.followers.spawn(async move {
                sender.send(Message::Evict(exceeded.await)).ok();
            });
        }
        let holds = Arc::clone(&worker.holds);
        let handle = Handle {
            messages: sender,
            holds,
        };
        (worker, handle)
    }

    /// Lives the pod's life. Returns when nothing of it is left.
    pub(crate) async fn run(mut self) {
        loop {
            match self.observer.observe(&self.ctx.cri, &self.key.uid).await {
                Ok(observed) => {
                    self.holds.store(!observed.is_empty(), Ordering::Relaxed);
                    self.observed = observed;
                    self.step();
                    if self.phase == Phase::Gone {
                        break;
                    }
                    self.publish();
                }
                // The runtime is away: what it last said stands, and the node
                // reports it. Coming back, it shows as a change.
                Err(error) => {
                    tracing::debug!(pod = %self.key, %error, "cannot look at the pod");
                    self.again_at = Some(Timestamp::now() + Duration::from_secs(1));
                }
            }
            self.wait().await;
        }
        self.ctx.directory.remove(&self.key.uid);
        self.followers.shutdown().await;
    }

    /// One step of the state machine: decides and begins jobs.
    fn step(&mut self) {
        self.again_at = None;
        self.read_last_words();
        let ip = self.pod_ips().first().copied();
        self.prober.sync(&self.pod, &self.observed, ip);
        let deleted = self.gone || pod::is_deleted(&self.pod);
        match self.phase {
            Phase::Active if deleted => self.begin_stopping(),
            Phase::Active => self.active(),
            Phase::Stopping { since, grace } => self.stopping(since, grace),
            Phase::Ended if deleted => self.phase = Phase::Removing,
            Phase::Ended => self.ended(),
            Phase::Removing | Phase::Gone => {}
        }
        if self.phase == Phase::Removing {
            self.removing();
        }
    }

    /// Waits until something happens, and takes in all that has.
    async fn wait(&mut self) {
        let until = self.wake_at().map(|at| {
            let left = at.duration_since(Timestamp::now());
            Duration::try_from(left).unwrap_or_default()
        });
        let timer = async {
            match until {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(message) = self.messages.recv() => self.take_in(message),
            Some(done) = self.jobs.join_next() => self.job_done(done),
            () = timer => {}
        }
        while let Ok(message) = self.messages.try_recv() {
            self.take_in(message);
        }
        while let Some(done) = self.jobs.try_join_next() {
            self.job_done(done);
        }
    }

    fn wake_at(&self) -> Option<Timestamp> {
        let renew = self.volumes_renew_at.filter(|_| self.phase == Phase::Active);
        let all = [self.again_at, self.retries.next(), self.deadline(), renew];
        all.into_iter().flatten().min()
    }

    fn take_in(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => {
                self.publisher.note_api(&pod);
                let before = std::mem::replace(&mut self.pod, pod);
                self.pod_changed(&before);
            }
            Message::Gone(last) => {
                self.gone = true;
                // Its containers are being asked to end, and somebody removed
                // the object from under them: that is in a hurry.
                self.forced = matches!(self.phase, Phase::Stopping { .. });
                if let Some(last) = last {
                    self.pod = last;
                }
                self.publisher.stop();
            }
            Message::Look => {}
            Message::Evict(message) => self.eviction = Some(message),
            Message::Verdict(verdict) => {
                self.prober.note(&self.pod, &verdict);
            }
            Message::Objects => {
                // Whatever failed for want of an object may go now, and what is
                // mounted may be out of date.
                self.retries.forget_waits();
                if self.volumes_ready {
                    self.refresh_volumes();
                }
            }
        }
    }

    /// What follows from a change of the pod's object itself.
    fn pod_changed(&mut self, before: &Pod) {
        if self.phase != Phase::Active {
            return;
        }
        let added = pod::ephemeral_containers(&self.pod).len();
        if added != pod::ephemeral_containers(before).len() {
            let names = references::of(&self.pod);
            let objects = PodObjects::follow(&self.ctx.objects, &self.key.namespace, names);
            for object in objects.iter().filter(|object| !self.objects.has(object)) {
                follow(&mut self.followers, object, &self.sender);
            }
            self.objects = objects;
        }
        let (old, new) = (&before.metadata, &self.pod.metadata);
        let shown = old.labels != new.labels || old.annotations != new.annotations;
        if shown && self.volumes_ready {
            // Files of the downward API tell them.
            self.refresh_volumes();
        }
    }

    fn pod_ips(&self) -> Vec<IpAddr> {
        addresses(&self.pod, &self.observed, &self.ctx.config.node_ips)
    }

    fn about(&self) -> About {
        About::pod(&self.pod)
    }

    fn read_last_words(&mut self) {
        let runs = &self.observed.runs;
        self.last_words.retain(|id, _| runs.iter().any(|r| r.id == *id));
        for run in runs.iter().filter(|r| r.has_exited()) {
            // A few kilobytes, once per exit.
            self.last_words
                .entry(run.id.clone())
                .or_insert_with(|| last_words::read(run));
        }
    }

    /// Tells the API what is so now, if that is news.
    fn publish(&mut self) {
        match self.phase {
            Phase::Active | Phase::Stopping { .. } => self.publish_status(false),
            Phase::Ended => self.publish_status(true),
            Phase::Removing | Phase::Gone => {}
        }
    }

    /// `over`: nothing of the pod will be started any more.
    fn publish_status(&mut self, over: bool) {
        if self.gone {
            return;
        }
        let waiting = self.waiting();
        let status = pod_status(&Facts {
            pod: &self.pod,
            observed: &self.observed,
            now: Timestamp::now(),
            node_ips: &self.ctx.config.node_ips,
            waiting: &waiting,
            ready: self.prober.ready(),
            started: self.prober.started(),
            last_words: &self.last_words,
            failure: self.failure.as_ref().filter(|_| over),
            over,
        });
        self.ctx.directory.set_status(&self.key.uid, &status);
        self.publisher.publish(status);
    }

    fn waiting(&self) -> BTreeMap<String, Waiting> {
        // A container that failed to start and now waits out its back-off shows that it does; why is in its
        // last state.
        let mut waiting = self.retries.waiting();
        waiting.extend(self.held.clone());
        waiting
    }
}

/// Why the API says that the pod failed as a whole, if it does.
fn failed_before(pod: &Pod) -> Option<Failure> {
    let status = pod.status.as_ref().filter(|_| pod::is_over(pod))?;
    Some(Failure {
        reason: status.reason.clone()?,
        message: status.message.clone().unwrap_or_default(),
    })
}

fn follow(
    followers: &mut JoinSet<()>,
    object: &Arc<crate::objects::Followed>,
    sender: &mpsc::UnboundedSender<Message>,
) {
    let object = Arc::clone(object);
    let sender = sender.clone();
    followers.spawn(async move {
        let mut changes = object.changes();
        while changes.next().await {
            if sender.send(Message::Objects).is_err() {
                return;
            }
        }
    });
}
