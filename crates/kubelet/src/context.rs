//! What all parts of one node's kubelet share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kernel::cgroup::Hierarchies;
use tokio::sync::Semaphore;

use crate::config::{self, Config};
use crate::downward::Surroundings;
use crate::events::Recorder;
use crate::images::Images;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::network::NetworkStatus;
use crate::objects::Objects;
use crate::server::Answers;
use crate::services::Services;
use crate::stats::Rates;

/// The node's kubelet, seen from a pod's worker.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) client: kube::Client,
    pub(crate) cri: cri::Client,
    pub(crate) network: Arc<dyn NetworkStatus>,
    pub(crate) events: Recorder,
    pub(crate) objects: Objects,
    pub(crate) images: Images,
    pub(crate) services: Services,
    pub(crate) machine: Machine,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) directory: Directory,
    pub(crate) metrics: Metrics,
    pub(crate) rates: Rates,
    /// What the API said about callers.
    pub(crate) access: Answers,
    /// Bounds how much is set up at the same time: more at once would only
    /// make every single one slower.
    pub(crate) slots: Semaphore,
}

impl Context {
    /// A pod's folder of volumes and other files.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        config::pod_dir(&self.config.pods_dir(), uid)
    }

    /// What pods may learn of the node.
    pub(crate) fn surroundings(&self, pod_ips: Vec<std::net::IpAddr>) -> Surroundings {
        Surroundings {
            node_name: self.config.node_name.clone(),
            node_ips: self.config.node_ips.clone(),
            pod_ips,
            node_cpu_millis: self.machine.cpu_millis,
            node_memory: self.machine.memory,
        }
    }

    /// The node's resolver settings; empty if it has none.
    pub(crate) async fn resolv_conf(&self) -> String {
        tokio::fs::read_to_string(&self.config.resolv_conf)
            .await
            .unwrap_or_default()
    }
}

/// The node's pods as its API shows them, by uid.
#[derive(Default)]
pub(crate) struct Directory(Mutex<HashMap<String, Arc<Pod>>>);

impl Directory {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Pod>>> {
        // A map is whole at every point where a panic could leave it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, uid: &str, pod: Arc<Pod>) {
        self.lock().insert(uid.to_owned(), pod);
    }

    /// Shows the status that the worker just made, ahead of the API's echo.
    pub(crate) fn set_status(&self, uid: &str, status: &PodStatus) {
        if let Some(pod) = self.lock().get_mut(uid) {
            Arc::make_mut(pod).status = Some(status.clone());
        }
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.lock().values().cloned().collect()
    }

    /// The pod of that name. While one replaces another, the newer.
    pub(crate) fn named(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let pods = self.lock();
        let named = pods.values().filter(|p| {
            p.metadata.namespace.as_deref() == Some(namespace) && p.metadata.name.as_deref() == Some(name)
        });
        named
            .max_by_key(|p| p.metadata.creation_timestamp.clone())
            .cloned()
    }
}
