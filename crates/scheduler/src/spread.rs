//! Pods that are spread evenly over places (the plugin PodTopologySpread).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use kube::core::{Expression, Selector, SelectorExt};

use crate::affinity;
use crate::cluster::{NodeState, View};
use crate::filter::{Reason, untolerated};
use crate::info::{self, Info};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// One constraint of a pod.
#[derive(Debug)]
struct Constraint<'a> {
    key: &'a str,
    max_skew: i64,
    selector: Option<Selector>,
    min_domains: usize,
    /// Only nodes that the pod's node affinity lets in count; it does unless switched off.
    honor_affinity: bool,
    /// Only nodes whose taints it tolerates count; it does not unless switched on.
    honor_taints: bool,
    /// The pod itself is one of those that are spread.
    counts_itself: bool,
}

impl<'a> Constraint<'a> {
    fn of(constraint: &'a TopologySpreadConstraint, info: &Info) -> Self {
        let mut selector = constraint.label_selector.as_ref().and_then(info::selector);
        if let Some(selector) = &mut selector {
            let same = info.values(constraint.match_label_keys.as_deref());
            selector.extend(same.map(|(key, value)| Expression::In(key, [value].into())));
        }
        Self {
            key: &constraint.topology_key,
            max_skew: i64::from(constraint.max_skew),
            min_domains: constraint
                .min_domains
                .and_then(|least| usize::try_from(least).ok())
                .unwrap_or(1),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            counts_itself: selector.as_ref().is_some_and(|s| s.matches(&info.labels)),
            selector,
        }
    }

    /// Whether the pods of this node count.
    fn includes(&self, pod: &Pod, state: &NodeState) -> bool {
        let Some(node) = state.node.as_deref() else {
            return false;
        };
        (!self.honor_affinity || affinity::is_required_match(pod, node))
            && (!self.honor_taints || untolerated(pod, node).is_none())
    }

    /// How many pods of a node are among those that are spread.
    fn count(&self, info: &Info, state: &NodeState) -> i64 {
        // Kubernetes counts none for a selector that selects everything.
        let selector = self.selector.as_ref().filter(|selector| !selector.selects_all());
        let Some(selector) = selector else { return 0 };
        let of_them = state.pods.values().filter(|placed| {
            !placed.info.leaving
                && placed.info.namespace == info.namespace
                && selector.matches(&placed.info.labels)
        });
        i64::try_from(of_them.count()).unwrap_or(i64::MAX)
    }
}

/// A constraint that must be kept, with what it counts.
#[derive(Debug)]
struct Kept<'a> {
    constraint: Constraint<'a>,
    counts: HashMap<&'a str, i64>,
}

impl Kept<'_> {
    fn check(&self, state: &NodeState) -> Result<(), Reason> {
        let constraint = &self.constraint;
        let value = state.label(constraint.key).ok_or(Reason::SpreadLabel)?;
        let least = match self.counts.len() < constraint.min_domains {
            true => 0,
            false => self.counts.values().min().copied().unwrap_or(0),
        };
        let here = self.counts.get(value).copied().unwrap_or(0) + i64::from(constraint.counts_itself);
        match here - least > constraint.max_skew {
            true => Err(Reason::Spread),
            false => Ok(()),
        }
    }
}

/// A pod's constraints.
#[derive(Debug)]
pub(crate) struct Spread<'a> {
    info: &'a Info,
    kept: Vec<Kept<'a>>,
    wished: Vec<Constraint<'a>>,
}

impl<'a> Spread<'a> {
    pub(crate) fn of(pod: &'a Pod, info: &'a Info, view: &View<'a>) -> Self {
        let spec = pod.spec.as_ref();
        let all = spec.and_then(|spec| spec.topology_spread_constraints.as_deref());
        let (mut kept, mut wished) = (Vec::new(), Vec::new());
        for constraint in all.unwrap_or_default() {
            let read = Constraint::of(constraint, info);
            match constraint.when_unsatisfiable.as_str() {
                "ScheduleAnyway" => wished.push(read),
                _ => kept.push(Kept {
                    constraint: read,
                    counts: HashMap::new(),
                }),
            }
        }
        let mut spread = Self { info, kept, wished };
        spread.look(pod, view);
        spread
    }

    fn look(&mut self, pod: &Pod, view: &View<'a>) {
        let keys: Vec<&str> = self.kept.iter().map(|kept| kept.constraint.key).collect();
        let has_all = |state: &NodeState| keys.iter().all(|key| state.label(key).is_some());
        for (_, state) in view.nodes.iter().filter(|(_, state)| has_all(state)) {
            for kept in &mut self.kept {
                let Some(value) = state.label(kept.constraint.key) else {
                    continue;
                };
                if kept.constraint.includes(pod, state) {
                    *kept.counts.entry(value).or_default() += kept.constraint.count(self.info, state);
                }
            }
        }
    }

    /// Whether the pod says itself how it is to be spread.
    pub(crate) fn is_asked_for(&self) -> bool {
        !self.kept.is_empty() || !self.wished.is_empty()
    }

    /// Whether the pod can be on this node.
    pub(crate) fn check(&self, state: &NodeState) -> Result<(), Reason> {
        self.kept.iter().try_for_each(|kept| kept.check(state))
    }

    /// How well each of these nodes, which are those that can have the pod, meets the wishes: 0 to 100.
    pub(crate) fn scores(&self, pod: &Pod, nodes: &[(&str, &NodeState)], view: &View<'_>) -> Vec<i64> {
        if self.wished.is_empty() {
            return vec![0; nodes.len()];
        }
        let has_all = |state: &NodeState| self.wished.iter().all(|c| state.label(c.key).is_some());
        let mut totals: Vec<Option<f64>> = nodes
            .iter()
            .map(|(_, state)| has_all(state).then_some(0.0))
            .collect();
        for constraint in &self.wished {
            self.add(constraint, pod, &mut totals, nodes, view, has_all);
        }
        let rounded = |total: &f64| total.round();
        let known = || totals.iter().flatten().map(rounded);
        let (least, most) = (known().fold(f64::MAX, f64::min), known().fold(0.0, f64::max));
        let score = |total: &Option<f64>| match total {
            None => 0,
            Some(_) if most == 0.0 => 100,
            // Between 0 and 100.
            Some(total) => (100.0 * (most + least - total.round()) / most) as i64,
        };
        totals.iter().map(score).collect()
    }

    fn add(
        &self,
        constraint: &Constraint<'_>,
        pod: &Pod,
        totals: &mut [Option<f64>],
        nodes: &[(&str, &NodeState)],
        view: &View<'_>,
        has_all: impl Fn(&NodeState) -> bool,
    ) {
        let key = constraint.key;
        let mut counts: HashMap<&str, i64> = HashMap::new();
        let usable = nodes.iter().filter(|(_, state)| has_all(state));
        for value in usable.filter_map(|(_, state)| state.label(key)) {
            counts.entry(value).or_default();
        }
        let all = view.nodes.iter().filter(|(_, state)| has_all(state));
        for (_, state) in all.filter(|(_, state)| constraint.includes(pod, state)) {
            if let Some(count) = state.label(key).and_then(|value| counts.get_mut(value)) {
                *count += constraint.count(self.info, state);
            }
        }
        let places = match key {
            HOSTNAME => totals.iter().flatten().count(),
            _ => counts.len(),
        };
        // More places each have fewer pods: their counts weigh more.
        let weight = (places as f64 + 2.0).ln();
        for (total, (_, state)) in totals.iter_mut().zip(nodes) {
            let Some(total) = total else { continue };
            let count = match key {
                HOSTNAME => constraint.count(self.info, state),
                _ => state
                    .label(key)
                    .and_then(|value| counts.get(value))
                    .copied()
                    .unwrap_or(0),
            };
            *total += count as f64 * weight + (constraint.max_skew - 1) as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Cluster;
    use crate::fixture::{node, pod};

    /// Nodes `a1`, `a2` and `b1` in zones `a`, `a` and `b`, with as many pods of `web` as told;
    /// `none` is in no zone.
    fn cluster(counts: [usize; 3]) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, count) in ["a1", "a2", "b1"].into_iter().zip(counts) {
            let labels = json!({ "zone": &name[..1], "kubernetes.io/hostname": name });
            cluster.set_node(&node(name, json!({ "metadata": { "labels": labels } })));
            for n in 0..count {
                let labels = json!({ "labels": { "app": "web", "v": "1" }, "uid": format!("{name}-{n}") });
                cluster.assume(&pod("p", json!({ "metadata": labels })), name);
            }
        }
        cluster.set_node(&node("none", json!({})));
        cluster
    }

    fn web(constraint: Value) -> Pod {
        let mut whole = json!({ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": "web" } } });
        json_patch::merge(&mut whole, &constraint);
        pod(
            "new",
            json!({ "metadata": { "labels": { "app": "web", "v": "2" } },
                    "spec": { "topologySpreadConstraints": [whole] } }),
        )
    }

    fn verdicts(cluster: &Cluster, pod: &Pod) -> Vec<&'static str> {
        let info = Info::of(pod);
        let view = cluster.view();
        let spread = Spread::of(pod, &info, &view);
        let verdict = |state| match spread.check(state) {
            Ok(()) => "yes",
            Err(Reason::SpreadLabel) => "no label",
            Err(_) => "no",
        };
        view.nodes.iter().map(|(_, state)| verdict(state)).collect()
    }

    #[rstest]
    #[case::even([0, 0, 0], json!({}), ["yes", "yes", "yes", "no label"])]
    #[case::one_zone_has_more([1, 0, 0], json!({}), ["no", "no", "yes", "no label"])]
    #[case::a_larger_skew([1, 0, 0], json!({ "maxSkew": 2 }), ["yes", "yes", "yes", "no label"])]
    #[case::by_node([1, 0, 1], json!({ "topologyKey": "kubernetes.io/hostname" }),
        ["no", "yes", "no", "no label"])]
    #[case::pods_of_another_label([1, 0, 0], json!({ "labelSelector": { "matchLabels": { "app": "x" } } }),
        ["yes", "yes", "yes", "no label"])]
    #[case::only_of_the_same_version([1, 0, 0], json!({ "matchLabelKeys": ["v"] }),
        ["yes", "yes", "yes", "no label"])]
    #[case::too_few_zones([1, 0, 1], json!({ "minDomains": 3 }), ["no", "no", "no", "no label"])]
    #[case::enough_zones([1, 0, 1], json!({ "minDomains": 2 }), ["yes", "yes", "yes", "no label"])]
    fn a_pod_goes_where_the_skew_stays_small(
        #[case] counts: [usize; 3],
        #[case] constraint: Value,
        #[case] expected: [&str; 4],
    ) {
        assert_eq!(verdicts(&cluster(counts), &web(constraint)), expected);
    }

    #[test]
    fn nodes_that_the_pod_cannot_use_count_only_if_asked_to() {
        // Without zone b there is nothing that zone a could be uneven to.
        let mut pod = web(json!({}));
        let selector = [("zone".to_owned(), "a".to_owned())].into();
        pod.spec.as_mut().unwrap().node_selector = Some(selector);
        assert_eq!(verdicts(&cluster([1, 0, 0]), &pod)[..2], ["yes", "yes"]);
        let mut pod = web(json!({ "nodeAffinityPolicy": "Ignore" }));
        pod.spec.as_mut().unwrap().node_selector = Some([("zone".to_owned(), "a".to_owned())].into());
        assert_eq!(verdicts(&cluster([1, 0, 0]), &pod)[..2], ["no", "no"]);

        let mut cluster = cluster([1, 0, 0]);
        let taints = json!([{ "key": "k", "effect": "NoSchedule" }]);
        let labels = json!({ "zone": "b", "kubernetes.io/hostname": "b1" });
        cluster.set_node(&node(
            "b1",
            json!({ "metadata": { "labels": labels }, "spec": { "taints": taints } }),
        ));
        assert_eq!(verdicts(&cluster, &web(json!({})))[..2], ["no", "no"]);
        assert_eq!(
            verdicts(&cluster, &web(json!({ "nodeTaintsPolicy": "Honor" })))[..2],
            ["yes", "yes"]
        );
    }

    #[test]
    fn pods_that_leave_and_pods_elsewhere_are_not_counted() {
        let mut cluster = cluster([0, 0, 0]);
        let leaving = json!({ "metadata": { "uid": "1", "labels": { "app": "web" },
            "deletionTimestamp": "2026-11-21T12:00:00Z" } });
        cluster.assume(&pod("leaving", leaving), "a1");
        let elsewhere = json!({ "metadata": { "uid": "2", "namespace": "x", "labels": { "app": "web" } } });
        cluster.assume(&pod("elsewhere", elsewhere), "a1");
        assert_eq!(verdicts(&cluster, &web(json!({})))[..2], ["yes", "yes"]);
    }

    #[test]
    fn wishes_rank_nodes() {
        let cluster = cluster([2, 0, 1]);
        let wish = json!({ "whenUnsatisfiable": "ScheduleAnyway", "topologyKey": "kubernetes.io/hostname" });
        let (pod, view) = (web(wish), cluster.view());
        let info = Info::of(&pod);
        let spread = Spread::of(&pod, &info, &view);
        let scores = spread.scores(&pod, &view.nodes, &view);
        // Of a node without the label nothing is known.
        assert!(
            scores[1] > scores[2] && scores[2] > scores[0] && scores[3] == 0,
            "{scores:?}"
        );
        assert_eq!(scores[1], 100);
    }
}
