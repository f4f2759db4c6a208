//! The pod is meant to run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;

use super::jobs::{Job, Outcome};
use super::{Phase, Worker};
use crate::bandwidth;
use crate::context::Context;
use crate::decide::{self, Kill, Plan, Start, View};
use crate::dns;
use crate::events::About;
use crate::metrics::count;
use crate::network::NetworkStatus;
use crate::pod::{self, PodKey};
use crate::probe::Check;
use crate::runtime::{RunState, Sandbox};
use crate::start::Starter;
use crate::status::Failure;
use crate::stop::Stopper;
use crate::{resources, sandbox};

/// How long a sandbox waits for the node's network before it says so.
const NETWORK_PATIENCE: Duration = Duration::from_secs(10);

impl Worker {
    pub(super) fn active(&mut self) {
        let now = Timestamp::now();
        if self.deadline().is_some_and(|at| at <= now) {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.ctx
                .events
                .normal(&self.about(), "DeadlineExceeded", message.clone());
            self.failure = Some(Failure {
                reason: "DeadlineExceeded".to_owned(),
                message,
            });
            return self.begin_stopping();
        }
        if let Some(message) = self.eviction.take() {
            let reason = "Evicted";
            self.ctx.events.warning(&self.about(), reason, message.clone());
            self.failure = Some(Failure {
                reason: reason.to_owned(),
                message,
            });
            self.forced = true;
            return self.begin_stopping();
        }
        let image = |name: &str| {
            let image = pod::container(&self.pod, name).and_then(|c| c.image.clone());
            image.unwrap_or_default()
        };
        for (container, image) in self.retries.turn_to_back_off(now, image) {
            let about = About::container(&self.pod, &container);
            let pulling = format!("Back-off pulling image {image:?}");
            self.ctx.events.normal(&about, "BackOff", pulling);
            self.ctx
                .events
                .warning(&about, "Failed", "Error: ImagePullBackOff");
        }
        let starting = self.starting();
        let plan = decide::decide(&View {
            pod: &self.pod,
            observed: &self.observed,
            now,
            failed: self.prober.failed(),
            started: self.prober.started(),
            backoff: &self.backoff,
            starting: &starting,
        });
        self.carry_out(plan, now);
        if self.volumes_renew_at.is_some_and(|at| at <= now) {
            self.refresh_volumes();
        }
    }

    fn starting(&self) -> BTreeSet<String> {
        let name = |job: &Job| match job {
            Job::Start(name) => Some(name.clone()),
            _ => None,
        };
        self.busy.iter().filter_map(name).collect()
    }

    fn carry_out(&mut self, plan: Plan, now: Timestamp) {
        self.announce_back_offs(&plan);
        self.held = plan.held;
        self.again_at = plan.again_at;
        for kill in plan.kill {
            let grace = self.grace_of(&kill);
            self.kill(kill, grace);
        }
        if plan.finished {
            if self.observed.alive().next().is_none() && self.busy.is_empty() {
                self.phase = Phase::Ended;
                self.ended();
            }
            return;
        }
        let wanted = plan.new_sandbox.is_some() || !plan.start.is_empty();
        if wanted && !self.volumes_ready {
            return self.refresh_volumes();
        }
        if let Some(attempt) = plan.new_sandbox {
            return self.make_sandbox(attempt);
        }
        for start in plan.start {
            self.start(start, now);
        }
        self.prune();
    }

    /// An event for each container that begins to wait.
    fn announce_back_offs(&self, plan: &Plan) {
        for (container, waiting) in plan
            .held
            .iter()
            .filter(|(name, _)| !self.held.contains_key(*name))
        {
            let about = About::container(&self.pod, container);
            if waiting.reason == "CrashLoopBackOff" {
                let message = format!(
                    "Back-off restarting failed container {container} in pod {}",
                    self.key
                );
                self.ctx.events.warning(&about, "BackOff", message);
            } else {
                let message = format!("Error: {}", waiting.message);
                self.ctx.events.warning(&about, "Failed", message);
            }
        }
    }

    /// When the pod has been active for as long as it may.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        if self.phase != Phase::Active {
            return None;
        }
        let seconds = pod::spec(&self.pod).active_deadline_seconds?;
        let started = self.pod.status.as_ref()?.start_time.as_ref()?.0;
        // A moment that time doesn't reach never comes.
        started.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// A probe may have a grace period of its own for its container.
    fn grace_of(&self, kill: &Kill) -> Duration {
        let own = kill.probe.and_then(|check: Check| {
            let container = pod::container(&self.pod, &kill.name)?;
            let probe = check.of(&container)?;
            u64::try_from(probe.termination_grace_period_seconds?).ok()
        });
        own.map_or_else(|| pod::grace(&self.pod), |s| Duration::from_secs(s.max(1)))
    }

    pub(super) fn kill(&mut self, kill: Kill, grace: Duration) {
        let job = Job::Kill(kill.id.clone());
        if !self.may(&job) {
            return;
        }
        let id = kill.id.clone();
        let stopper = Stopper {
            ctx: Arc::clone(&self.ctx),
            pod: Arc::clone(&self.pod),
            sandbox: self.observed.sandbox().cloned(),
            kill,
            grace,
        };
        let handle = self.begin(job, async move {
            Outcome::Plain(stopper.run().await.map_err(|e| e.to_string()))
        });
        self.kills.insert(id, handle);
    }

    /// Sets up the volumes, or brings them up to date.
    pub(super) fn refresh_volumes(&mut self) {
        // What changes while they are being set up may have been too late for it.
        self.volumes_stale = self.busy.contains(&Job::Volumes);
        if self.phase != Phase::Active || !self.may(&Job::Volumes) {
            return;
        }
        self.volumes_renew_at = None;
        let (ctx, pod) = (Arc::clone(&self.ctx), Arc::clone(&self.pod));
        let (volumes, objects) = (Arc::clone(&self.volumes), self.objects.clone());
        let around = ctx.surroundings(self.pod_ips());
        let cancel = self.cancel.clone();
        self.begin(Job::Volumes, async move {
            tokio::select! {
                () = cancel.cancelled() => return Outcome::Plain(Ok(())),
                () = objects.first_answers() => {}
            }
            let mut volumes = volumes.lock().await;
            let done = volumes.set_up(&pod, &ctx.client, &objects, &around).await;
            let renew_at = volumes.renew_in().map(|left| Timestamp::now() + left);
            Outcome::Volumes(done.map(|()| renew_at))
        });
    }

    fn make_sandbox(&mut self, attempt: u32) {
        if !self.may(&Job::Sandbox) {
            return;
        }
        if self.rates_are_wrong() {
            return;
        }
        let changed = !self.observed.sandboxes.is_empty();
        if changed {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.ctx.events.normal(&self.about(), "SandboxChanged", message);
        }
        let maker = SandboxMaker {
            ctx: Arc::clone(&self.ctx),
            pod: Arc::clone(&self.pod),
            old: self
                .observed
                .sandboxes
                .iter()
                .map(|s| (s.id.clone(), self.observed.runs.iter().any(|r| r.sandbox == s.id)))
                .collect(),
            attempt,
        };
        let cancel = self.cancel.clone();
        self.begin(Job::Sandbox, async move {
            if let Err(why) = maker.wait_for_network(&cancel).await {
                return Outcome::NotReady(why);
            }
            if cancel.is_cancelled() {
                return Outcome::Plain(Ok(()));
            }
            Outcome::Sandbox(maker.run().await)
        });
    }

    /// Whether the pod waits until somebody corrects its annotations; said once.
    fn rates_are_wrong(&mut self) -> bool {
        let wrong = bandwidth::wrong(&self.pod);
        if let Some(message) = wrong.as_ref().filter(|_| wrong != self.said_of_rates) {
            self.ctx
                .events
                .warning(&self.about(), "FailedCreatePodSandBox", message.clone());
        }
        self.said_of_rates = wrong;
        self.said_of_rates.is_some()
    }

    fn start(&mut self, start: Start, now: Timestamp) {
        let job = Job::Start(start.name.clone());
        let Some(sandbox) = self.observed.sandbox().cloned() else {
            return;
        };
        if !self.may(&job) {
            return;
        }
        if let Some(finished) = start.after {
            self.backoff.restarted(&start.name, finished, now);
        }
        let leftover = self
            .observed
            .latest(&start.name)
            .filter(|r| r.state == RunState::Created);
        let starter = Starter {
            ctx: Arc::clone(&self.ctx),
            pod: Arc::clone(&self.pod),
            sandbox,
            leftover: leftover.map(|r| r.id.clone()),
            start,
            objects: self.objects.clone(),
            cancel: self.cancel.clone(),
        };
        self.begin(job, async move { Outcome::Start(starter.run().await) });
    }

    /// Forgets runs that ended before the last one that did, and sandboxes
    /// that died and hold nothing any more.
    fn prune(&mut self) {
        if !self.busy.is_empty() || !self.may(&Job::Prune) {
            return;
        }
        let mut runs = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for run in self.observed.runs.iter().filter(|r| r.has_exited()) {
            let dead = seen.entry(run.name.as_str()).or_insert(0);
            *dead += 1;
            // One is kept: it is the container's last state, and its log is
            // what `kubectl logs --previous` shows.
            if *dead > 1 {
                runs.push((run.id.clone(), run.log_path.clone()));
            }
        }
        let holds = |s: &Sandbox| self.observed.runs.iter().any(|r| r.sandbox == s.id);
        let old = self
            .observed
            .sandboxes
            .iter()
            .skip(1)
            .filter(|s| !s.ready && !holds(s));
        let sandboxes: Vec<String> = old.map(|s| s.id.clone()).collect();
        if runs.is_empty() && sandboxes.is_empty() {
            return;
        }
        let cri = self.ctx.cri.clone();
        self.begin(Job::Prune, async move {
            for (id, log) in runs {
                if let Err(error) = cri.remove_container(&id).await {
                    return Outcome::Plain(Err(error.to_string()));
                }
                tokio::fs::remove_file(log).await.ok();
            }
            for id in sandboxes {
                if let Err(error) = cri.remove_pod_sandbox(&id).await {
                    return Outcome::Plain(Err(error.to_string()));
                }
            }
            Outcome::Plain(Ok(()))
        });
    }
}

/// Makes a pod's sandbox.
struct SandboxMaker {
    ctx: Arc<Context>,
    pod: Arc<k8s_openapi::api::core::v1::Pod>,
    /// The sandboxes before it, and whether they hold anything.
    old: Vec<(String, bool)>,
    attempt: u32,
}

impl SandboxMaker {
    /// Waits for the node's network; pods on the node's own don't need it.
    async fn wait_for_network(&self, cancel: &tokio_util::sync::CancellationToken) -> Result<(), String> {
        if pod::host_network(&self.pod) {
            return Ok(());
        }
        let network: &dyn NetworkStatus = &*self.ctx.network;
        let ready = async {
            loop {
                let changed = network.changed();
                if network.ready().is_ok() {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            result = tokio::time::timeout(NETWORK_PATIENCE, ready) => match result {
                Ok(()) => Ok(()),
                Err(_) => network.ready(),
            }
        }
    }

    async fn run(self) -> Result<(), String> {
        let _slot = self.ctx.slots.acquire().await;
        let text = |error: cri::Error| error.to_string();
        // Stopping gives an old sandbox's address back before a new one is taken.
        for (id, holds) in &self.old {
            self.ctx.cri.stop_pod_sandbox(id).await.map_err(text)?;
            if !holds {
                self.ctx.cri.remove_pod_sandbox(id).await.map_err(text)?;
            }
        }
        self.make_cgroup().await?;
        let resolv_conf = self.ctx.resolv_conf().await;
        if let Some(why) = sandbox::impossible_hostname(&self.pod, &self.ctx.config) {
            return Err(why);
        }
        let (_, complaints) = dns::dns_config(&self.pod, &self.ctx.config, &resolv_conf);
        for (reason, message) in complaints {
            self.ctx.events.warning(&About::pod(&self.pod), reason, message);
        }
        let config = sandbox::sandbox_config(&self.pod, self.attempt, &self.ctx.config, &resolv_conf);
        let logs = self
            .ctx
            .config
            .logs_dir()
            .join(PodKey::of(&self.pod).log_dir_name());
        tokio::fs::create_dir_all(&logs)
            .await
            .map_err(|e| format!("cannot make {}: {e}", logs.display()))?;
        let handler = self.handler().await?;
        match self.ctx.cri.run_pod_sandbox(config, handler).await {
            Ok(_) => {
                count(&self.ctx.metrics.sandboxes_started);
                Ok(())
            }
            Err(error) => {
                count(&self.ctx.metrics.sandbox_failures);
                Err(error.to_string())
            }
        }
    }

    /// How the runtime calls what the pod's RuntimeClass stands for; empty for what it uses by itself.
    async fn handler(&self) -> Result<String, String> {
        let Some(name) = &pod::spec(&self.pod).runtime_class_name else {
            return Ok(String::new());
        };
        let classes: Api<RuntimeClass> = Api::all(self.ctx.client.clone());
        match classes.get_opt(name).await {
            Ok(Some(class)) => Ok(class.handler),
            Ok(None) => Err(format!(
                "failed to get sandbox runtime: RuntimeClass {name:?} not found"
            )),
            Err(error) => Err(format!("failed to get sandbox runtime: {error}")),
        }
    }

    /// What holds the pod's containers together, and what it may take as a whole.
    async fn make_cgroup(&self) -> Result<(), String> {
        let uid = PodKey::of(&self.pod).uid;
        let group = self
            .ctx
            .hierarchies
            .group(&sandbox::cgroup(&self.ctx.config, &uid));
        let limits = resources::pod_limits(&self.pod);
        let work = tokio::task::spawn_blocking(move || {
            group.create()?;
            group.limit(&limits)
        });
        let done = work.await.map_err(|panic| panic.to_string())?;
        done.map_err(|error| error.to_string())
    }
}
