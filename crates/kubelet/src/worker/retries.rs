//! What failed and when it is tried again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::jobs::Job;
use crate::decide::Waiting;
use crate::retry::Growing;
use crate::start::StartError;

/// For sandboxes, volumes and containers that can't be made.
const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(10);
/// For images: a registry is not to be hammered.
const FIRST_PULL: Duration = Duration::from_secs(10);
const MOST_PULL: Duration = Duration::from_secs(300);
/// How long a failed pull shows as such before it shows as waiting.
const SHOW_ERROR: Duration = Duration::from_secs(2);

/// The failed jobs of one pod.
#[derive(Default)]
pub(super) struct Retries {
    entries: HashMap<Job, Entry>,
}

struct Entry {
    growing: Growing,
    until: Timestamp,
    waiting: Option<Waiting>,
    /// For a failed pull: when it turns into a back-off, until it has.
    back_off_at: Option<Timestamp>,
}

impl Retries {
    /// The job failed and is tried again later.
    pub(super) fn failed(&mut self, job: Job, now: Timestamp) -> Timestamp {
        let entry = self.entry(job, FIRST, MOST);
        entry.waiting = None;
        entry.until = now + entry.growing.delay();
        entry.until
    }

    /// A container could not be started.
    pub(super) fn start_failed(&mut self, job: Job, error: StartError, now: Timestamp) {
        let pull = error.is_image && error.waiting.reason == "ErrImagePull";
        let (first, most) = if pull {
            (FIRST_PULL, MOST_PULL)
        } else {
            (FIRST, MOST)
        };
        let entry = self.entry(job, first, most);
        entry.until = now + entry.growing.delay();
        entry.waiting = Some(error.waiting);
        entry.back_off_at = pull.then_some(now + SHOW_ERROR);
    }

    fn entry(&mut self, job: Job, first: Duration, most: Duration) -> &mut Entry {
        self.entries.entry(job).or_insert_with(|| Entry {
            growing: Growing::new(first, most),
            until: Timestamp::UNIX_EPOCH,
            waiting: None,
            back_off_at: None,
        })
    }

    /// The job succeeded.
    pub(super) fn succeeded(&mut self, job: &Job) {
        self.entries.remove(job);
    }

    /// Whether the job may be tried now.
    pub(super) fn allows(&self, job: &Job, now: Timestamp) -> bool {
        self.entries.get(job).is_none_or(|e| e.until <= now)
    }

    /// Everything but pulls may be tried at once.
    pub(super) fn forget_waits(&mut self) {
        for entry in self.entries.values_mut() {
            if entry.waiting.as_ref().is_none_or(|w| !is_pull(w)) {
                entry.until = Timestamp::UNIX_EPOCH;
            }
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let now = Timestamp::now();
        let times = self.entries.values().flat_map(|e| [Some(e.until), e.back_off_at]);
        times.flatten().filter(|at| *at > now).min()
    }

    /// Turns failed pulls that have been shown into back-offs; returns the
    /// containers and their images.
    pub(super) fn turn_to_back_off(
        &mut self,
        now: Timestamp,
        image: impl Fn(&str) -> String,
    ) -> Vec<(String, String)> {
        let mut turned = Vec::new();
        for (job, entry) in &mut self.entries {
            let due = entry.back_off_at.is_some_and(|at| at <= now);
            let (true, Some(waiting), Job::Start(container)) = (due, &mut entry.waiting, job) else {
                continue;
            };
            entry.back_off_at = None;
            let why = std::mem::take(&mut waiting.message);
            waiting.reason = "ImagePullBackOff".to_owned();
            let image = image(container);
            waiting.message = format!("Back-off pulling image {image:?}: ErrImagePull: {why}");
            turned.push((container.clone(), image));
        }
        turned
    }

    /// Why containers wait.
    pub(super) fn waiting(&self) -> BTreeMap<String, Waiting> {
        let of = |(job, entry): (&Job, &Entry)| match job {
            Job::Start(container) => Some((container.clone(), entry.waiting.clone()?)),
            _ => None,
        };
        self.entries.iter().filter_map(of).collect()
    }
}

fn is_pull(waiting: &Waiting) -> bool {
    matches!(waiting.reason.as_str(), "ErrImagePull" | "ImagePullBackOff")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tests::at;

    fn error(reason: &str) -> StartError {
        StartError {
            waiting: Waiting {
                reason: reason.into(),
                message: "why".into(),
            },
            is_image: reason == "ErrImagePull",
        }
    }

    #[test]
    fn a_failed_pull_turns_into_a_back_off() {
        let job = Job::Start("a".into());
        let image = |_: &str| "x:1".to_owned();
        let mut retries = Retries::default();
        retries.start_failed(job.clone(), error("ErrImagePull"), at(0));
        assert_eq!(retries.waiting()["a"].reason, "ErrImagePull");
        assert!(retries.turn_to_back_off(at(1), image).is_empty());
        assert_eq!(retries.turn_to_back_off(at(2), image).len(), 1);
        assert_eq!(retries.waiting()["a"].reason, "ImagePullBackOff");
        assert_eq!(
            retries.waiting()["a"].message,
            "Back-off pulling image \"x:1\": ErrImagePull: why"
        );
        assert!(!retries.allows(&job, at(9)));
        assert!(retries.allows(&job, at(10)));
    }

    #[test]
    fn a_changed_object_ends_waits_but_not_those_for_registries() {
        let (config, pull) = (Job::Start("a".into()), Job::Start("b".into()));
        let mut retries = Retries::default();
        retries.start_failed(config.clone(), error("CreateContainerConfigError"), at(0));
        retries.start_failed(pull.clone(), error("ErrImagePull"), at(0));
        retries.forget_waits();
        assert!(retries.allows(&config, at(0)) && !retries.allows(&pull, at(0)));
    }

    #[test]
    fn success_forgets() {
        let job = Job::Sandbox;
        let mut retries = Retries::default();
        retries.failed(job.clone(), at(0));
        retries.failed(job.clone(), at(1));
        assert!(!retries.allows(&job, at(1)));
        retries.succeeded(&job);
        assert!(retries.allows(&job, at(1)));
    }
}
