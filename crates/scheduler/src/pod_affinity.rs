//! Pods that want to be near others, or far from them (the plugin InterPodAffinity).

use std::collections::{HashMap, HashSet};

use crate::cluster::{NodeState, View};
use crate::filter::Reason;
use crate::info::{Info, Namespaces, Term};

/// A label of nodes and its value: nodes that have it are near each other.
type Place<'a> = (&'a str, &'a str);

/// What pods that have nodes mean to one that has none.
#[derive(Debug)]
pub(crate) struct Neighbours<'a> {
    pod: &'a Info,
    /// How often pods that it must be near are in a place.
    wanted: HashMap<Place<'a>, usize>,
    /// Where pods are that it must not be near.
    avoided: HashSet<Place<'a>>,
    /// Where pods are that don't want it near.
    defended: HashSet<Place<'a>>,
    /// It is one of those that it must be near: the first of them may go anywhere.
    is_its_own: bool,
    /// How much it, and those that are there, prefer a place.
    scores: HashMap<Place<'a>, i64>,
}

impl<'a> Neighbours<'a> {
    pub(crate) fn of(pod: &'a Info, view: &View<'a>) -> Self {
        let namespaces = view.namespaces;
        let mut neighbours = Self {
            pod,
            wanted: HashMap::new(),
            avoided: HashSet::new(),
            defended: HashSet::new(),
            is_its_own: pod.affinity.iter().all(|term| term.selects(pod, namespaces)),
            scores: HashMap::new(),
        };
        for (_, state) in &view.nodes {
            for placed in state.pods.values() {
                neighbours.meet(state, &placed.info, namespaces);
            }
        }
        neighbours
    }

    fn meet(&mut self, state: &'a NodeState, other: &'a Info, namespaces: &Namespaces) {
        let pod = self.pod;
        let near = &pod.affinity;
        if !near.is_empty() && near.iter().all(|term| term.selects(other, namespaces)) {
            for place in near.iter().filter_map(|term| place(state, term)) {
                *self.wanted.entry(place).or_default() += 1;
            }
        }
        let far = pod
            .anti_affinity
            .iter()
            .filter(|term| term.selects(other, namespaces));
        self.avoided.extend(far.filter_map(|term| place(state, term)));
        let far = other
            .anti_affinity
            .iter()
            .filter(|term| term.selects(pod, namespaces));
        self.defended.extend(far.filter_map(|term| place(state, term)));

        let own = pod
            .preferred
            .iter()
            .filter(|(_, term)| term.selects(other, namespaces));
        let others = other
            .preferred
            .iter()
            .filter(|(_, term)| term.selects(pod, namespaces));
        for (weight, term) in own.chain(others) {
            self.prefer(state, term, *weight);
        }
        // Those that must be near it say a little, too: Kubernetes' hardPodAffinityWeight.
        for term in other.affinity.iter().filter(|term| term.selects(pod, namespaces)) {
            self.prefer(state, term, 1);
        }
    }

    fn prefer(&mut self, state: &'a NodeState, term: &'a Term, weight: i64) {
        if let Some(place) = place(state, term) {
            *self.scores.entry(place).or_default() += weight;
        }
    }

    /// Whether the pod can be on this node.
    pub(crate) fn check(&self, state: &NodeState) -> Result<(), Reason> {
        if !self.has_company(state) {
            return Err(Reason::PodAffinity);
        }
        let mut far = self.pod.anti_affinity.iter();
        if far.any(|term| place(state, term).is_some_and(|place| self.avoided.contains(&place))) {
            return Err(Reason::PodAntiAffinity);
        }
        if self
            .defended
            .iter()
            .any(|place| state.label(place.0) == Some(place.1))
        {
            return Err(Reason::ExistingPodsAntiAffinity);
        }
        Ok(())
    }

    /// Whether every pod that it must be near has one of its kind near this node.
    fn has_company(&self, state: &NodeState) -> bool {
        let mut alone = false;
        for term in &self.pod.affinity {
            match place(state, term) {
                None => return false,
                Some(place) => alone |= !self.wanted.contains_key(&place),
            }
        }
        !alone || (self.wanted.is_empty() && self.is_its_own)
    }

    /// How much the node is preferred, by no particular measure.
    pub(crate) fn score(&self, state: &NodeState) -> i64 {
        let met = self
            .scores
            .iter()
            .filter(|(place, _)| state.label(place.0) == Some(place.1));
        met.map(|(_, score)| score).sum()
    }
}

fn place<'a>(state: &'a NodeState, term: &'a Term) -> Option<Place<'a>> {
    let key = term.topology_key.as_str();
    Some((key, state.label(key)?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Cluster;
    use crate::fixture::{node, pod};

    /// Nodes `a1` and `a2` in zone `a`, `b1` in zone `b`; `none` is in no zone.
    fn cluster(pods: &[(&str, Value)]) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
            cluster.set_node(&node(name, json!({ "metadata": { "labels": { "zone": zone } } })));
        }
        cluster.set_node(&node("none", json!({})));
        for (n, (node, changes)) in pods.iter().enumerate() {
            let mut changes = changes.clone();
            changes["metadata"]["uid"] = json!(n.to_string());
            cluster.assume(&pod("placed", changes), node);
        }
        cluster
    }

    fn app(name: &str) -> Value {
        json!({ "metadata": { "labels": { "app": name } } })
    }

    fn with(mut pod: Value, kind: &str, term: Value) -> Value {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        pod["spec"] = json!({ "affinity": { kind: { required: [term] } } });
        pod
    }

    fn zone_of(name: &str) -> Value {
        json!({ "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": name } } })
    }

    /// What each node says about a pod: nothing if it can have it.
    fn verdicts(cluster: &Cluster, changes: Value) -> Vec<String> {
        let info = Info::of(&pod("new", changes));
        let view = cluster.view();
        let neighbours = Neighbours::of(&info, &view);
        let verdict = |state| match neighbours.check(state) {
            Ok(()) => "ok".to_owned(),
            Err(reason) => reason.to_string(),
        };
        view.nodes.iter().map(|(_, state)| verdict(state)).collect()
    }

    const NEAR: &str = "node(s) didn't match pod affinity rules";
    const FAR: &str = "node(s) didn't match pod anti-affinity rules";
    const DEFENDED: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

    #[rstest]
    #[case::near_a_pod(vec![("a1", app("db"))], with(app("web"), "podAffinity", zone_of("db")),
        ["ok", "ok", NEAR, NEAR])]
    #[case::near_nobody(vec![], with(app("web"), "podAffinity", zone_of("db")),
        [NEAR, NEAR, NEAR, NEAR])]
    #[case::the_first_of_its_own_kind(vec![], with(app("web"), "podAffinity", zone_of("web")),
        ["ok", "ok", "ok", NEAR])]
    #[case::the_second_of_its_own_kind(vec![("b1", app("web"))],
        with(app("web"), "podAffinity", zone_of("web")), [NEAR, NEAR, "ok", NEAR])]
    #[case::far_from_a_pod(vec![("a1", app("db"))], with(app("web"), "podAntiAffinity", zone_of("db")),
        [FAR, FAR, "ok", "ok"])]
    #[case::one_that_keeps_it_away(vec![("b1", with(app("db"), "podAntiAffinity", zone_of("web")))],
        app("web"), ["ok", "ok", DEFENDED, "ok"])]
    #[case::one_that_keeps_others_away(vec![("b1", with(app("db"), "podAntiAffinity", zone_of("x")))],
        app("web"), ["ok", "ok", "ok", "ok"])]
    fn pods_are_where_others_are_or_are_not(
        #[case] pods: Vec<(&str, Value)>,
        #[case] new: Value,
        #[case] expected: [&str; 4],
    ) {
        assert_eq!(verdicts(&cluster(&pods), new), expected);
    }

    #[test]
    fn preferences_of_both_sides_add_up() {
        let preferred = |kind: &str, weight: i64, name: &str| {
            let term = json!({ "weight": weight, "podAffinityTerm": zone_of(name) });
            let mut pod = app("web");
            pod["spec"] = json!({ "affinity": { kind: {
                "preferredDuringSchedulingIgnoredDuringExecution": [term] } } });
            pod
        };
        let mut admirer = preferred("podAffinity", 7, "web");
        admirer["metadata"]["labels"]["app"] = json!("admirer");
        let needy = with(app("needy"), "podAffinity", zone_of("web"));
        let cluster = cluster(&[("a1", app("db")), ("b1", admirer), ("b1", needy)]);
        let info = Info::of(&pod("new", preferred("podAntiAffinity", 10, "db")));
        let view = cluster.view();
        let neighbours = Neighbours::of(&info, &view);
        let scores: Vec<_> = view.nodes.iter().map(|(_, s)| neighbours.score(s)).collect();
        assert_eq!(scores, [-10, -10, 8, 0]);
    }
}
