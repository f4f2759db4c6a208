//! What runs beside the worker's loop, and what comes of it.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::task::JoinError;

use super::Worker;
use crate::start::StartError;
use crate::volumes::VolumeError;

/// A piece of work; each is under way at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Job {
    Volumes,
    Sandbox,
    /// Starting the container of that name.
    Start(String),
    /// Stopping the run of that id.
    Kill(String),
    /// Forgetting dead runs and sandboxes that nobody needs any more.
    Prune,
    /// Giving back what an ended pod holds.
    Release,
    /// Removing every trace.
    Cleanup,
}

/// How a job ended.
pub(super) enum Outcome {
    Volumes(Result<Option<Timestamp>, VolumeError>),
    Sandbox(Result<(), String>),
    Start(Result<bool, StartError>),
    /// Any other: done, or what went wrong.
    Plain(Result<(), String>),
    /// The node's network isn't ready; nothing was tried.
    NotReady(String),
}

/// A job that ended.
pub(super) struct Done {
    pub(super) job: Job,
    pub(super) outcome: Outcome,
}

impl Worker {
    /// Whether a job can begin: it isn't under way and not due later.
    pub(super) fn may(&self, job: &Job) -> bool {
        !self.busy.contains(job) && self.retries.allows(job, Timestamp::now())
    }

    /// Begins a job beside the loop.
    pub(super) fn begin(
        &mut self,
        job: Job,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> tokio::task::AbortHandle {
        self.busy.insert(job.clone());
        self.jobs.spawn(async move {
            // A panic is a bug; it must not take the knowledge with it of which
            // job it was, or the job would count as under way for ever.
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Outcome::Plain(Err("it panicked".to_owned())));
            Done { job, outcome }
        })
    }

    /// Takes in what came of a job.
    pub(super) fn job_done(&mut self, done: Result<Done, JoinError>) {
        let Done { job, outcome } = match done {
            Ok(done) => done,
            // Aborted on purpose: whoever did it has seen to the rest.
            Err(_) => return,
        };
        self.busy.remove(&job);
        let now = Timestamp::now();
        match outcome {
            Outcome::Volumes(Ok(renew_at)) => {
                self.volumes_ready = true;
                self.volumes_renew_at = match std::mem::take(&mut self.volumes_stale) {
                    true => Some(now),
                    false => renew_at,
                };
                self.retries.succeeded(&job);
            }
            Outcome::Volumes(Err(error)) => {
                let message = if error.volume.is_empty() {
                    error.message
                } else {
                    format!(
                        "MountVolume.SetUp failed for volume {:?} : {}",
                        error.volume, error.message
                    )
                };
                self.ctx.events.warning(&self.about(), "FailedMount", message);
                self.volumes_renew_at = Some(self.retries.failed(job, now));
            }
            Outcome::Sandbox(Err(message)) => {
                let message = format!("Failed to create pod sandbox: {message}");
                self.ctx
                    .events
                    .warning(&self.about(), "FailedCreatePodSandBox", message);
                self.retries.failed(job, now);
            }
            Outcome::NotReady(why) => {
                let message = format!("network is not ready: {why}");
                self.ctx.events.warning(&self.about(), "NetworkNotReady", message);
                self.retries.failed(job, now);
            }
            Outcome::Start(Err(error)) => self.retries.start_failed(job, error, now),
            Outcome::Plain(Err(error)) => {
                tracing::warn!(pod = %self.key, ?job, error, "will be tried again");
                self.retries.failed(job, now);
            }
            Outcome::Sandbox(Ok(())) | Outcome::Start(Ok(_)) | Outcome::Plain(Ok(())) => {
                self.retries.succeeded(&job);
                if let Job::Kill(id) = &job {
                    self.kills.remove(id);
                }
                if job == Job::Cleanup {
                    self.phase = super::Phase::Gone;
                }
            }
        }
    }
}
