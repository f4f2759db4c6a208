//! Which nodes can take a pod at all, and why the others cannot.

use std::collections::BTreeMap;
use std::fmt;

use controllers::tolerates;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use crate::affinity;
use crate::cluster::{NodeState, View};
use crate::info::Info;
use crate::pod_affinity::Neighbours;
use crate::requests::{PODS, Requests};
use crate::spread::Spread;

/// Why a node cannot take a pod, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Unschedulable,
    Taint {
        key: String,
        value: String,
    },
    Affinity,
    Ports,
    TooManyPods,
    /// Of this resource.
    Insufficient {
        resource: String,
        /// It would be even if the node were empty.
        ever: bool,
    },
    /// A label is missing by which pods are spread.
    SpreadLabel,
    Spread,
    PodAffinity,
    PodAntiAffinity,
    ExistingPodsAntiAffinity,
}

impl Reason {
    /// Whether it would help if pods went away.
    pub(crate) fn is_about_pods(&self) -> bool {
        match self {
            Self::Unschedulable | Self::Taint { .. } | Self::Affinity => false,
            Self::SpreadLabel | Self::PodAffinity => false,
            Self::Insufficient { ever, .. } => !ever,
            Self::Ports | Self::TooManyPods => true,
            Self::Spread | Self::PodAntiAffinity | Self::ExistingPodsAntiAffinity => true,
        }
    }
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
            Self::Insufficient { resource, .. } => write!(f, "Insufficient {resource}"),
            Self::SpreadLabel => {
                f.write_str("node(s) didn't match pod topology spread constraints (missing required label)")
            }
            Self::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Self::PodAffinity => f.write_str("node(s) didn't match pod affinity rules"),
            Self::PodAntiAffinity => f.write_str("node(s) didn't match pod anti-affinity rules"),
            Self::ExistingPodsAntiAffinity => {
                f.write_str("node(s) didn't satisfy existing pods anti-affinity rules")
            }
        }
    }
}

/// A pod that needs a node, with what all the others mean to it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) info: &'a Info,
    pub(crate) neighbours: Neighbours<'a>,
    pub(crate) spread: Spread<'a>,
}

impl<'a> Question<'a> {
    pub(crate) fn new(pod: &'a Pod, info: &'a Info, view: &View<'a>) -> Self {
        Self {
            pod,
            info,
            neighbours: Neighbours::of(info, view),
            spread: Spread::of(pod, info, view),
        }
    }

    /// Checks one node, also as it is when those are there that room is made for.
    pub(crate) fn filter(&self, state: &NodeState) -> Result<(), Vec<Reason>> {
        if let Some(state) = state.with_nominated(self.info) {
            self.filter_now(&state)?;
        }
        self.filter_now(state)
    }

    /// The first obstacle is told, but all the resources that lack.
    fn filter_now(&self, state: &NodeState) -> Result<(), Vec<Reason>> {
        let one = |reason| Err(vec![reason]);
        let Some(node) = state.node.as_deref() else {
            return one(Reason::Unschedulable);
        };
        if is_cordoned(node) && !tolerates_all(self.pod, &cordon()) {
            return one(Reason::Unschedulable);
        }
        if let Some(taint) = untolerated(self.pod, node) {
            return one(Reason::Taint {
                key: taint.key.clone(),
                value: taint.value.clone().unwrap_or_default(),
            });
        }
        if !affinity::is_required_match(self.pod, node) {
            return one(Reason::Affinity);
        }
        if has_ports_taken(&self.info.requests, state) {
            return one(Reason::Ports);
        }
        let lacking = lacking(&self.info.requests, state);
        if !lacking.is_empty() {
            return Err(lacking);
        }
        let spread = self.spread.check(state);
        spread.and_then(|()| self.neighbours.check(state)).or_else(one)
    }
}

fn has_ports_taken(requests: &Requests, state: &NodeState) -> bool {
    let mut taken = state.pods.values().flat_map(|placed| &placed.info.requests.ports);
    taken.any(|taken| requests.ports.iter().any(|port| port.conflicts(taken)))
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

/// The first of a node's taints that keeps a pod away.
pub(crate) fn untolerated<'a>(pod: &Pod, node: &'a Node) -> Option<&'a Taint> {
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
            lacking.push(Reason::Insufficient {
                resource: name.to_owned(),
                ever: amount > state.allocatable.get(name),
            });
        }
    }
    lacking
}

/// Sums up why no node can take a pod.
pub(crate) fn summary(nodes: usize, reasons: &[Vec<Reason>]) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let reasons = reasons.iter().flatten().map(ToString::to_string);
    format!("0/{nodes} nodes are available: {}.", counted(reasons))
}

/// Each text once, after how often it was there.
pub(crate) fn counted(texts: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    texts.for_each(|text| *counts.entry(text).or_default() += 1);
    let mut lines: Vec<_> = counts
        .iter()
        .map(|(text, count)| format!("{count} {text}"))
        .collect();
    lines.sort_unstable();
    lines.join(", ")
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
        let (info, view) = (Info::of(pod), cluster.view());
        let verdict = Question::new(pod, &info, &view).filter(view.nodes[0].1);
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
        let cpu = || {
            vec![Reason::Insufficient {
                resource: "cpu".to_owned(),
                ever: false,
            }]
        };
        assert_eq!(
            summary(3, &[cpu(), vec![taint], cpu()]),
            "0/3 nodes are available: 1 node(s) had untolerated taint {k: v}, 2 Insufficient cpu."
        );
        assert_eq!(summary(0, &[]), "no nodes available to schedule pods");
    }

    #[test]
    fn only_what_could_go_away_is_about_pods() {
        let cpu = |cpu: &str| {
            let requests = json!({ "requests": { "cpu": cpu } });
            pod(json!({ "spec": { "containers": [{ "name": "c", "resources": requests }] } }))
        };
        let mut cluster = cluster(json!({}));
        let mut first = cpu("2");
        first.metadata.uid = Some("first".to_owned());
        cluster.assume(&first, "a");
        let helps = |pod: &Pod| {
            let (info, view) = (Info::of(pod), cluster.view());
            let reasons = Question::new(pod, &info, &view).filter(view.nodes[0].1);
            reasons.unwrap_err().iter().all(Reason::is_about_pods)
        };
        assert!(helps(&cpu("1")));
        assert!(!helps(&cpu("3")), "the node has 2");
        assert!(!helps(&pod(
            json!({ "spec": { "nodeSelector": { "zone": "y" } } })
        )));
    }

    #[test]
    fn room_that_is_made_for_others_is_not_given_away() {
        let mut cluster = cluster(json!({}));
        let with = |uid: &str, priority: i32| {
            let requests = json!({ "requests": { "cpu": "2" } });
            pod(
                json!({ "metadata": { "uid": uid }, "spec": { "priority": priority,
                "containers": [{ "name": "c", "resources": requests }] } }),
            )
        };
        cluster.nominate(&Arc::new(Info::of(&with("1", 5))), "a");
        assert_eq!(verdict(&cluster, &with("2", 0)), refused(&["Insufficient cpu"]));
        assert_eq!(verdict(&cluster, &with("2", 6)), Ok(()));
        assert_eq!(verdict(&cluster, &with("1", 5)), Ok(()));
    }
}
