//! What Kubernetes adds to pods by admission and what needs no state of the cluster; the rest is the server's.
//! Pods only: the templates of Deployments and the like stay as their author wrote them.

use serde_json::Value;

use crate::json::{set, text};

/// The ServiceAccount plugin's first half: pods run as `default` unless they say otherwise.
pub(crate) fn pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    if text(spec, "/serviceAccountName").is_empty() {
        set(spec, "serviceAccountName", "default");
        set(spec, "serviceAccount", "default");
    }
}
