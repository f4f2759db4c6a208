//! What Kubernetes' default admission plugins add to pods. Pods only: the templates of Deployments and the
//! like stay as their author wrote them.

use serde_json::{Value, json};

use crate::json::{list, set, set_default, text};

/// All of the steps, in the order of Kubernetes' plugins.
pub(crate) fn pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    service_account(spec);
    default_toleration_seconds(spec);
    priority(spec);
}

/// The ServiceAccount plugin's first half: pods run as `default` unless they say otherwise. Mounting its
/// token needs the cluster's state, so that half is the server's.
fn service_account(spec: &mut Value) {
    if text(spec, "/serviceAccountName").is_empty() {
        set(spec, "serviceAccountName", "default");
        set(spec, "serviceAccount", "default");
    }
}

/// The DefaultTolerationSeconds plugin: a pod stays for five minutes on a node that isn't ready or can't be
/// reached, unless it tolerates these taints in its own way.
fn default_toleration_seconds(spec: &mut Value) {
    const SECONDS: i64 = 300;
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list(spec, "/tolerations").iter().any(|toleration| {
            matches!(text(toleration, "/effect"), "" | "NoExecute")
                && (text(toleration, "/key").is_empty() || text(toleration, "/key") == key)
        });
        if !tolerated {
            set_default(spec, "tolerations", json!([]));
            if let Some(tolerations) = spec["tolerations"].as_array_mut() {
                tolerations.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
    }
}

/// The Priority plugin. There are no priority classes but the two that Kubernetes builds in.
fn priority(spec: &mut Value) {
    let priority: i64 = match text(spec, "/priorityClassName") {
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        _ => 0,
    };
    set_default(spec, "priority", priority);
    set_default(spec, "preemptionPolicy", "PreemptLowerPriority");
}
