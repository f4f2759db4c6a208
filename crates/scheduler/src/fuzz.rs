//! A way into this crate for fuzzing (crate `fuzz-targets`): objects that an API server hands out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::{self, Cluster};
use crate::filter::{Question, summary};
use crate::hint;
use crate::info::Info;
use crate::preempt::{self, Budget};
use crate::score::choose;

/// Nodes, Namespaces, PodDisruptionBudgets and Pods, a list of them: each pod without a node gets one, or the reason
/// why not.
pub fn schedule(objects: &[u8]) {
    let Ok(objects) = serde_json::from_slice::<Vec<Value>>(objects) else {
        return;
    };
    let mut cluster = Cluster::default();
    for node in of_kind::<Node>(&objects, "Node") {
        cluster.set_node(&Arc::new(node));
    }
    for namespace in of_kind::<Namespace>(&objects, "Namespace") {
        cluster.set_namespace(&namespace);
    }
    let budgets = of_kind::<PodDisruptionBudget>(&objects, "PodDisruptionBudget");
    let budgets: Vec<_> = budgets.iter().filter_map(Budget::of).collect();
    let pods = of_kind::<Pod>(&objects, "Pod");
    pods.iter().for_each(|pod| cluster.set_pod(pod));
    for pod in &pods {
        if !cluster.is_placed(pod) && !cluster::has_ended(pod) {
            decide(&mut cluster, pod, &budgets);
        }
    }
    for pod in &pods {
        cluster.remove_pod(cluster::uid(pod));
    }
    let view = cluster.view();
    assert!(
        view.nodes.iter().all(|(_, state)| state.pods.is_empty()),
        "all pods are gone"
    );
}

fn decide(cluster: &mut Cluster, pod: &Pod, budgets: &[Budget]) {
    let info = Info::of(pod);
    let view = cluster.view();
    let question = Question::new(pod, &info, &view);
    let verdicts = match choose(&question, &view) {
        Ok(chosen) => {
            let chosen = chosen.to_owned();
            cluster.assume(pod, &chosen);
            return;
        }
        Err(verdicts) => verdicts,
    };
    assert_eq!(
        verdicts.len(),
        view.nodes.len(),
        "one of those that fit is the best"
    );
    summary(view.nodes.len(), &verdicts);
    hint::too_large(&info, &view);
    let nominated = cluster.nomination(&info.uid);
    if let Ok(sacrifice) = preempt::find(pod, &info, &view, &verdicts, nominated, budgets) {
        cluster.nominate(&Arc::new(info.clone()), &sacrifice.node);
    }
}

/// The objects that are of a kind, and can be read.
fn of_kind<T: DeserializeOwned>(objects: &[Value], kind: &str) -> Vec<T> {
    let objects = objects.iter().filter(|object| object["kind"] == kind);
    let read = objects.filter_map(|object| serde_json::from_value(object.clone()).ok());
    read.collect()
}
