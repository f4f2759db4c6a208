//! What ADD waits for: that nothing is missing of what the pod's own isolation depends on.
//!
//! Policies of the pod's namespace that are there by now were perhaps made before the pod was, and a watch
//! may not have told of them yet. So the API is asked what there is, and the watches are waited for; if they
//! are slow, they begin anew.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use model::PodRef;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::{Kind, Known, Policies};

/// How long the API may take to say what there is, before what is known counts.
const ANSWER: Duration = Duration::from_secs(1);
/// How long watches may be behind before they begin anew, and before the pod is refused.
const BEHIND: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);

/// What isn't known yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsettled {
    #[error("the API hasn't said yet which {0} there are")]
    NotListed(Kind),
    #[error("the API hasn't told yet of pod {0}")]
    Pod(String),
    #[error("the API hasn't told yet of namespace {0}")]
    Namespace(String),
    #[error("the API hasn't told yet of all NetworkPolicies in namespace {0}")]
    Policies(String),
}

impl Unsettled {
    /// The kind whose watch is behind.
    fn kind(&self) -> Kind {
        match self {
            Unsettled::NotListed(kind) => *kind,
            Unsettled::Pod(_) => Kind::Pods,
            Unsettled::Namespace(_) => Kind::Namespaces,
            Unsettled::Policies(_) => Kind::Policies,
        }
    }
}

/// What the API holds at one moment.
#[derive(Debug, Default)]
struct Now {
    /// The pod's UID, as the runtime or else the API says.
    uid: Option<String>,
    /// The versions of its namespace's policies; none if the API is away.
    policies: Option<Versions>,
}

/// The versions of some objects, by name, and of the list of them.
#[derive(Debug, Default)]
struct Versions {
    at: String,
    of: BTreeMap<String, String>,
}

impl Policies {
    /// Waits until everything is known that the pod's isolation depends on, and says which pod it is.
    /// While the API is away, what is known is all there is.
    pub(crate) async fn settle(&self, pod: &PodRef) -> Result<PodRef, Unsettled> {
        let mut changes = self.changes();
        let now = self.now(pod).await;
        let pod = PodRef {
            uid: now.uid.clone().unwrap_or_default(),
            ..pod.clone()
        };
        let start = Instant::now();
        let mut asked_anew = false;
        loop {
            changes.mark_unchanged();
            let Some(missing) = self.known().missing(&pod, &now) else {
                return Ok(pod);
            };
            if start.elapsed() >= PATIENCE {
                return Err(missing);
            }
            if !asked_anew && start.elapsed() >= BEHIND {
                asked_anew = true;
                self.anew[missing.kind() as usize].send_modify(|count| *count += 1);
            }
            let until = if asked_anew { PATIENCE } else { BEHIND };
            // Nobody but this drops the sender.
            let _ = timeout_at(start + until, changes.changed()).await;
        }
    }

    /// Asks the API what there is.
    async fn now(&self, pod: &PodRef) -> Now {
        if pod.name.is_empty() {
            return Now::default();
        }
        let policies: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), &pod.namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let everything = ListParams::default();
        let uid = async {
            match pod.uid.as_str() {
                "" => pods.get_metadata(&pod.name).await.map(|found| found.uid()),
                uid => Ok(Some(uid.to_owned())),
            }
        };
        let asked = async { tokio::join!(policies.list_metadata(&everything), uid) };
        let Ok((policies, uid)) = timeout(ANSWER, asked).await else {
            debug!(%pod, "the API doesn't say what there is: what is known counts");
            let uid = Some(pod.uid.clone()).filter(|uid| !uid.is_empty());
            return Now { uid, policies: None };
        };
        let policies = policies.inspect_err(|error| debug!(%pod, %error, "what is known counts"));
        Now {
            uid: uid.ok().flatten(),
            policies: policies.ok().map(|list| Versions {
                at: list.metadata.resource_version.unwrap_or_default(),
                of: list
                    .items
                    .into_iter()
                    .map(|one| (one.name_any(), one.resource_version().unwrap_or_default()))
                    .collect(),
            }),
        }
    }
}

impl Known {
    /// What is missing for that pod.
    fn missing(&self, pod: &PodRef, now: &Now) -> Option<Unsettled> {
        if let Some(kind) = self.unlisted() {
            return Some(Unsettled::NotListed(kind));
        }
        if pod.name.is_empty() {
            return None;
        }
        let known = self.pods.get(&(pod.namespace.clone(), pod.name.clone()));
        if known.is_none_or(|seen| !pod.uid.is_empty() && seen.uid != pod.uid) {
            return Some(Unsettled::Pod(pod.to_string()));
        }
        if !self.namespaces.contains(&pod.namespace) {
            return Some(Unsettled::Namespace(pod.namespace.clone()));
        }
        let none = BTreeMap::new();
        let policies = self.policies.get(&pod.namespace).unwrap_or(&none);
        let is_behind = now.policies.as_ref().is_some_and(|now| now.is_ahead_of(policies));
        is_behind.then(|| Unsettled::Policies(pod.namespace.clone()))
    }
}

impl Versions {
    /// Whether these say anything that isn't known.
    fn is_ahead_of(&self, known: &BTreeMap<String, String>) -> bool {
        let unknown = |(name, version): (&String, &String)| {
            known.get(name).is_none_or(|known| !is_as_new(known, version))
        };
        // One that isn't there any more, unless it came later.
        let gone = |(name, version): (&String, &String)| {
            !self.of.contains_key(name) && !is_as_new(version, &self.at)
        };
        self.of.iter().any(unknown) || known.iter().any(gone)
    }
}

/// Whether a version is another one or a later one. What isn't a number can't be compared.
fn is_as_new(version: &str, than: &str) -> bool {
    let numbers = version.parse::<u64>().ok().zip(than.parse::<u64>().ok());
    version == than || numbers.is_some_and(|(version, than)| version > than)
}
