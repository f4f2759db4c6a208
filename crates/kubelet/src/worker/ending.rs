//! The pod is going, or over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::cleanup::Cleanup;
use super::jobs::{Job, Outcome};
use super::{Phase, Worker};
use crate::decide;
use crate::pod;

/// What a container gets to end by itself in any case.
const LEAST: Duration = Duration::from_secs(1);

impl Worker {
    /// From here on nothing is started.
    pub(super) fn begin_stopping(&mut self) {
        self.cancel.cancel();
        self.prober.stopping();
        self.held.clear();
        let (since, grace) = (Timestamp::now(), self.grace());
        self.phase = Phase::Stopping { since, grace };
        self.stopping(since, grace);
    }

    fn grace(&self) -> Duration {
        if self.forced { LEAST } else { pod::grace(&self.pod) }
    }

    pub(super) fn stopping(&mut self, since: Timestamp, mut grace: Duration) {
        let now_allowed = self.grace();
        if now_allowed < grace {
            // Somebody is in more of a hurry: what waits is asked anew.
            grace = now_allowed;
            self.phase = Phase::Stopping { since, grace };
            for (id, handle) in self.kills.drain() {
                handle.abort();
                self.busy.remove(&Job::Kill(id));
            }
        }
        if self
            .busy
            .iter()
            .any(|job| matches!(job, Job::Start(_) | Job::Sandbox | Job::Volumes))
        {
            // What was begun ends first, or it would start what was just stopped.
            return;
        }
        let spent = Timestamp::now().duration_since(since);
        let left = grace.saturating_sub(Duration::try_from(spent).unwrap_or_default());
        let left = left.max(LEAST);
        let next = decide::next_to_stop(&self.pod, &self.observed);
        if !next.is_empty() {
            for kill in next {
                self.kill(kill, left);
            }
            return;
        }
        if !self.busy.is_empty() {
            return;
        }
        if self.gone || pod::is_deleted(&self.pod) {
            // The last state is worth a word before all is removed.
            self.publish_status(true);
            self.phase = Phase::Removing;
        } else {
            self.phase = Phase::Ended;
            self.ended();
        }
    }

    /// Nothing will run again: what the pod holds is given back, its logs stay.
    pub(super) fn ended(&mut self) {
        self.cancel.cancel();
        self.held.clear();
        for kill in decide::next_to_stop(&self.pod, &self.observed) {
            self.kill(kill, pod::grace(&self.pod));
        }
        let all_exited = self.observed.alive().next().is_none();
        let holds = self.observed.sandboxes.iter().any(|s| s.ready) || self.volumes_ready;
        if !all_exited || !holds || !self.may(&Job::Release) || !self.busy.is_empty() {
            return;
        }
        self.volumes_ready = false;
        let cleanup = self.cleanup_of();
        self.begin(
            Job::Release,
            async move { Outcome::Plain(cleanup.release().await) },
        );
    }

    /// Removes every trace, then the object.
    pub(super) fn removing(&mut self) {
        self.cancel.cancel();
        if !self.busy.is_empty() || !self.may(&Job::Cleanup) {
            return;
        }
        let cleanup = self.cleanup_of();
        let published = self.publisher.finish();
        self.begin(Job::Cleanup, async move {
            published.await;
            Outcome::Plain(cleanup.remove().await)
        });
    }

    fn cleanup_of(&self) -> Cleanup {
        Cleanup {
            ctx: Arc::clone(&self.ctx),
            key: self.key.clone(),
            sandboxes: self.observed.sandboxes.iter().map(|s| s.id.clone()).collect(),
            runs: self.observed.runs.iter().map(|r| r.id.clone()).collect(),
            delete_object: !self.gone,
        }
    }
}
