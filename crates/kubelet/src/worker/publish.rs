//! Writing a pod's status to the API: the latest one, when it differs, for as
//! long as it takes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::metrics::count;
use crate::pod::PodKey;
use crate::retry::Growing;
use crate::status_patch::patch;

/// How long a pod's removal waits for its last status to get through.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A pod's line to the API.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    news: Notify,
    settled: Notify,
    stop: CancellationToken,
}

struct State {
    /// The status that the API has, as far as we know, and its version.
    have: PodStatus,
    version: u64,
    /// The status that it shall have.
    want: Option<PodStatus>,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written now.
    fn due(&self, uid: &str) -> Option<serde_json::Value> {
        let state = self.lock();
        patch(uid, &state.have, state.want.as_ref()?)
    }

    /// Takes in the API's state, unless a newer one is known.
    fn learn(&self, pod: &Pod) {
        let version = pod
            .metadata
            .resource_version
            .as_deref()
            .and_then(|v| v.parse().ok());
        let mut state = self.lock();
        // A server whose versions aren't numbers is believed every time.
        if version.is_none_or(|v| v > state.version) {
            state.version = version.unwrap_or(0);
            state.have = pod.status.clone().unwrap_or_default();
        }
    }
}

impl Publisher {
    pub(super) fn new(ctx: Arc<Context>, pod: &Pod) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                have: PodStatus::default(),
                version: 0,
                want: None,
            }),
            news: Notify::new(),
            settled: Notify::new(),
            stop: CancellationToken::new(),
        });
        shared.learn(pod);
        let task = tokio::spawn(write(ctx, PodKey::of(pod), Arc::clone(&shared)));
        Self {
            shared,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The status that the API shall have from now on.
    pub(super) fn publish(&self, status: PodStatus) {
        let mut state = self.shared.lock();
        if state.want.as_ref() != Some(&status) {
            state.want = Some(status);
            drop(state);
            self.shared.news.notify_one();
        }
    }

    /// What the API has by a watch: somebody may have changed it.
    pub(super) fn note_api(&self, pod: &Pod) {
        self.shared.learn(pod);
        self.shared.news.notify_one();
    }

    /// The pod isn't in the API any more: there is nowhere to write to.
    pub(super) fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Completes when the last status is written, or can't be for a while.
    pub(super) fn finish(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            let settled = async {
                loop {
                    let settled = shared.settled.notified();
                    if shared.stop.is_cancelled() || shared.due("").is_none() {
                        return;
                    }
                    settled.await;
                }
            };
            tokio::time::timeout(LAST_WORD, settled).await.ok();
            shared.stop.cancel();
        }
    }
}

async fn write(ctx: Arc<Context>, key: PodKey, shared: Arc<Shared>) {
    let stopped = shared.stop.clone();
    tokio::select! {
        () = stopped.cancelled() => {}
        () = write_all(&ctx, &key, &shared) => {}
    }
    shared.settled.notify_waiters();
}

async fn write_all(ctx: &Context, key: &PodKey, shared: &Shared) {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let mut growing = Growing::for_requests();
    loop {
        let Some(patch) = shared.due(&key.uid) else {
            shared.settled.notify_waiters();
            shared.news.notified().await;
            continue;
        };
        let change = Patch::Strategic(&patch);
        let written = api
            .patch_status(&key.name, &PatchParams::default(), &change)
            .await;
        match written {
            Ok(pod) => {
                count(&ctx.metrics.status_patches);
                growing.reset();
                shared.learn(&pod);
                if shared.due(&key.uid).as_ref() == Some(&patch) {
                    // The server took it and doesn't show it: no storm of the same.
                    tokio::time::sleep(growing.delay()).await;
                }
            }
            // The pod is gone, or another has its name: the watch will tell.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                shared.stop.cancel();
                return;
            }
            Err(error) => {
                tracing::debug!(pod = %key, %error, "cannot write the pod's status yet");
                tokio::time::sleep(growing.delay()).await;
            }
        }
    }
}
