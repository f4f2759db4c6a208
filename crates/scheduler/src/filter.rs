//! Which nodes can take a pod at all, and why the others cannot.

use std::collections::BTreeMap;
use std::fmt;

use controllers::tolerates;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use crate::affinity;
use crate::cluster::NodeState;
use crate::requests::{PODS, Requests};

/// Why a node cannot take a pod, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Unschedulable,
    Taint { key: String, value: String },
    Affinity,
    Ports,
    TooManyPods,
    Insufficient(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::Taint { key, value } => {
                write!(f, "node(s) had untolerated taint {{{key}: {value}}}")
            }
            Self::Affinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::Ports => f.write_str("node(s) didn't have free ports for the requested pod ports"),
            Self::TooManyPods => f.write_str("Too many pods"),
            Self::Insufficient(resource) => write!(f, "Insufficient {resource}"),
        }
    }
}

/// Checks one node. The first obstacle is told, but all the resources that lack.
pub(crate) fn filter(pod: &Pod, requests: &Requests, state: &NodeState) -> Result<(), Vec<Reason>> {
    let Some(node) = state.node.as_deref() else {
        return Err(vec![Reason::Unschedulable]);
    };
    if is_cordoned(node) && !tolerates_all(pod, &cordon()) {
        return Err(vec![Reason::Unschedulable]);
    }
    if let Some(taint) = untolerated(pod, node) {
        let value = taint.value.clone().unwrap_or_default();
        return Err(vec![Reason::Taint {
            key: taint.key.clone(),
            value,
        }]);
    }
    if !affinity::is_required_match(pod, node) {
        return Err(vec![Reason::Affinity]);
    }
    let taken = state.pods.values().flat_map(|placed| &placed.requests.ports);
    if taken
        .into_iter()
        .any(|taken| requests.ports.iter().any(|port| port.conflicts(taken)))
    {
        return Err(vec![Reason::Ports]);
    }
    let lacking = lacking(requests, state);
    if lacking.is_empty() { Ok(()) } else { Err(lacking) }
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

/// A cordoned node is one with this taint, whether it is written on it or not.
fn cordon() -> Taint {
    Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    }
}

fn untolerated<'a>(pod: &Pod, node: &'a Node) -> Option<&'a Taint> {
    let taints = node.spec.as_ref()?.taints.as_deref()?;
    let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    taints
        .iter()
        .filter(keeps_away)
        .find(|taint| !tolerates_all(pod, taint))
}

/// Whether any of the pod's tolerations tolerates a taint.
pub(crate) fn tolerates_all(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    tolerations
        .unwrap_or_default()
        .iter()
        .any(|toleration| tolerates(toleration, taint))
}

fn lacking(requests: &Requests, state: &NodeState) -> Vec<Reason> {
    let mut lacking = Vec::new();
    if state.pods.len() >= state.most_pods() {
        lacking.push(Reason::TooManyPods);
    }
    for (name, amount) in requests.amounts.iter() {
        if amount == 0 || name == PODS {
            continue;
        }
        let free = state
            .allocatable
            .get(name)
            .saturating_sub(state.requested.get(name));
        if amount > free {
            lacking.push(Reason::Insufficient(name.to_owned()));
        }
    }
    lacking
}

/// Sums up why no node can take a pod.
pub(crate) fn summary(nodes: usize, reasons: &[Vec<Reason>]) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<&Reason, usize> = BTreeMap::new();
    for reason in reasons.iter().flatten() {
        *counts.entry(reason).or_default() += 1;
    }
    let mut texts: Vec<_> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    texts.sort_unstable();
    format!("0/{nodes} nodes are available: {}.", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Cluster;

    fn pod(changes: Value) -> Pod {
        let mut pod = json!({ "metadata": { "name": "p", "uid": "p" },
                              "spec": { "containers": [{ "name": "c" }] } });
        json_patch::merge(&mut pod, &changes);
        serde_json::from_value(pod).unwrap()
    }

    fn cluster(spec: Value) -> Cluster {
        let node = json!({
            "metadata": { "name": "a", "labels": { "zone": "x" } },
            "spec": spec,
            "status": { "allocatable": { "cpu": "2", "memory": "1Gi", "pods": "2" } },
        });
        let mut cluster = Cluster::default();
        cluster.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
        cluster
    }

    fn verdict(cluster: &Cluster, pod: &Pod) -> Result<(), Vec<String>> {
        let (_, state) = cluster.nodes().next().unwrap();
        let verdict = filter(pod, &Requests::of(pod), state);
        verdict.map_err(|reasons| reasons.iter().map(ToString::to_string).collect())
    }

    fn refused(reasons: &[&str]) -> Result<(), Vec<String>> {
        Err(reasons.iter().map(|&reason| reason.to_owned()).collect())
    }

    #[rstest]
    #[case::cordoned(json!({ "unschedulable": true }), json!({}), "node(s) were unschedulable")]
    #[case::tainted(
        json!({ "taints": [{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }] }),
        json!({}),
        "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"
    )]
    #[case::elsewhere(json!({}), json!({ "nodeSelector": { "zone": "y" } }),
        "node(s) didn't match Pod's node affinity/selector")]
    fn obstacles_are_told(#[case] node: Value, #[case] spec: Value, #[case] reason: &str) {
        let pod = pod(json!({ "spec": spec }));
        assert_eq!(verdict(&cluster(node), &pod), refused(&[reason]));
    }

    #[test]
    fn tolerations_and_mere_preferences_let_pods_in() {
        let taint = |effect: &str| json!({ "taints": [{ "key": "k", "effect": effect }] });
        let tolerant = json!({ "spec": { "tolerations": [{ "key": "k", "operator": "Exists" }] } });
        assert_eq!(verdict(&cluster(taint("NoExecute")), &pod(tolerant)), Ok(()));
        assert_eq!(
            verdict(&cluster(taint("PreferNoSchedule")), &pod(json!({}))),
            Ok(())
        );
        let key = "node.kubernetes.io/unschedulable";
        let daemon = json!({ "spec": { "tolerations": [{ "key": key, "operator": "Exists" }] } });
        assert_eq!(
            verdict(&cluster(json!({ "unschedulable": true })), &pod(daemon)),
            Ok(())
        );
    }

    #[test]
    fn every_resource_that_lacks_is_told() {
        let requests = json!({ "cpu": "3", "memory": "2Gi", "example.com/gpu": "1" });
        let containers = json!([{ "name": "c", "resources": { "requests": requests } }]);
        let pod = pod(json!({ "spec": { "containers": containers } }));
        let lacking = [
            "Insufficient cpu",
            "Insufficient example.com/gpu",
            "Insufficient memory",
        ];
        assert_eq!(verdict(&cluster(json!({})), &pod), refused(&lacking));
    }

    #[test]
    fn what_is_on_the_node_counts() {
        let mut cluster = cluster(json!({}));
        let with = |uid: &str, cpu: &str, port: i32| {
            let container = json!({ "name": "c", "resources": { "requests": { "cpu": cpu } },
                "ports": [{ "containerPort": 80, "hostPort": port }] });
            pod(json!({ "metadata": { "uid": uid }, "spec": { "containers": [container] } }))
        };
        cluster.assume(&with("1", "1500m", 80), "a");
        assert_eq!(verdict(&cluster, &with("2", "500m", 81)), Ok(()));
        assert_eq!(
            verdict(&cluster, &with("2", "501m", 81)),
            refused(&["Insufficient cpu"])
        );
        let ports = "node(s) didn't have free ports for the requested pod ports";
        assert_eq!(verdict(&cluster, &with("2", "0", 80)), refused(&[ports]));
        cluster.assume(&with("2", "0", 81), "a");
        assert_eq!(
            verdict(&cluster, &with("3", "0", 82)),
            refused(&["Too many pods"])
        );
    }

    #[test]
    fn reasons_are_summed_up_as_kubernetes_does() {
        let taint = Reason::Taint {
            key: "k".to_owned(),
            value: "v".to_owned(),
        };
        let cpu = || vec![Reason::Insufficient("cpu".to_owned())];
        assert_eq!(
            summary(3, &[cpu(), vec![taint], cpu()]),
            "0/3 nodes are available: 1 node(s) had untolerated taint {k: v}, 2 Insufficient cpu."
        );
        assert_eq!(summary(0, &[]), "no nodes available to schedule pods");
    }
}
