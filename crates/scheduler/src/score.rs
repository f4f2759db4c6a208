//! Which of the nodes that can take a pod is best.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::affinity;
use crate::cluster::{NodeState, View};
use crate::filter::{Question, Reason, tolerates_all};
use crate::requests::{CPU, MEMORY, Requests};

/// How much each consideration weighs; each gives 0 to 100.
const AVOID_TAINTS: i64 = 3;
const PREFERENCE: i64 = 2;
const SPREAD: i64 = 2;
const NEIGHBOURS: i64 = 2;
const LEAST_ALLOCATED: i64 = 1;

/// Pods that ask for nothing need something all the same: a tenth of a CPU, and 200 MiB.
const LEAST_CPU: i64 = 100;
const LEAST_MEMORY: i64 = 200 << 20;

/// The best of the nodes that can have a pod; or, of each node, why it can't.
pub(crate) fn choose<'a>(question: &Question<'_>, view: &View<'a>) -> Result<&'a str, Vec<Vec<Reason>>> {
    let (mut fitting, mut verdicts) = (Vec::new(), Vec::new());
    for (name, state) in &view.nodes {
        match question.filter(state) {
            Ok(()) => fitting.push((*name, *state)),
            Err(why) => verdicts.push(why),
        }
    }
    best(question, &fitting, view).ok_or(verdicts)
}

/// The best of the nodes that can have a pod. Equals are told apart by how few pods they have, then by name.
fn best<'a>(question: &Question<'_>, nodes: &[(&'a str, &NodeState)], view: &View<'_>) -> Option<&'a str> {
    let scores = scores(question, nodes, view);
    let ranked = nodes.iter().zip(scores);
    let best = ranked.max_by(|((a_name, a), a_score), ((b_name, b), b_score)| {
        let fewer_pods = b.pods.len().cmp(&a.pods.len());
        a_score
            .cmp(b_score)
            .then(fewer_pods)
            .then_with(|| b_name.cmp(a_name))
    });
    best.map(|((name, _), _)| *name)
}

fn scores(question: &Question<'_>, nodes: &[(&str, &NodeState)], view: &View<'_>) -> Vec<i64> {
    let (pod, info) = (question.pod, question.info);
    let of = |value: &dyn Fn(&NodeState) -> i64| -> Vec<i64> {
        nodes.iter().map(|(_, state)| value(state)).collect()
    };
    let node = |state: &NodeState, value: fn(&Pod, &Node) -> i64| {
        state.node.as_deref().map_or(0, |node| value(pod, node))
    };
    let avoided = fewest_is_best(&of(&|state| node(state, disliked)));
    let preferred = most_is_best(&of(&|state| node(state, affinity::preference)));
    let neighbours = most_is_best(&of(&|state| question.neighbours.score(state)));
    let spread = if question.spread.is_asked_for() {
        question.spread.scores(pod, nodes, view)
    } else {
        fewest_is_best(&of(&|state| {
            let count = info.kin.as_deref().map_or(0, |kin| state.count(kin));
            i64::try_from(count).unwrap_or(i64::MAX)
        }))
    };
    let free = of(&|state| least_allocated(&info.requests, state));
    (0..nodes.len())
        .map(|n| {
            AVOID_TAINTS * avoided[n]
                + PREFERENCE * preferred[n]
                + NEIGHBOURS * neighbours[n]
                + SPREAD * spread[n]
                + LEAST_ALLOCATED * free[n]
        })
        .collect()
}

/// How many taints of the node say that such pods had better not come.
fn disliked(pod: &Pod, node: &Node) -> i64 {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let disliked = taints
        .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates_all(pod, taint))
        .count();
    i64::try_from(disliked).unwrap_or(i64::MAX)
}

fn least_allocated(requests: &Requests, state: &NodeState) -> i64 {
    let free = |name: &str, least: i64| {
        let allocatable = state.allocatable.get(name);
        if allocatable <= 0 {
            return 0;
        }
        let idle = state
            .pods
            .values()
            .filter(|pod| pod.info.requests.amounts.get(name) == 0)
            .count();
        let idle = i64::try_from(idle).unwrap_or(i64::MAX).saturating_mul(least);
        let own = match requests.amounts.get(name) {
            0 => least,
            own => own,
        };
        let used = state.requested.get(name).saturating_add(idle).saturating_add(own);
        let free = allocatable.saturating_sub(used).max(0);
        i64::try_from(i128::from(free) * 100 / i128::from(allocatable)).unwrap_or(0)
    };
    (free(CPU, LEAST_CPU) + free(MEMORY, LEAST_MEMORY)) / 2
}

/// 100 for the largest value, 0 for the smallest; when all are equal it doesn't matter.
fn most_is_best(values: &[i64]) -> Vec<i64> {
    let least = values.iter().min().copied().unwrap_or(0);
    let range = values.iter().max().copied().unwrap_or(0) - least;
    let score = |value: &i64| {
        if range == 0 {
            0
        } else {
            (value - least) * 100 / range
        }
    };
    values.iter().map(score).collect()
}

fn fewest_is_best(values: &[i64]) -> Vec<i64> {
    most_is_best(&values.iter().map(|value| -value).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Cluster;
    use crate::info::Info;

    fn cluster(nodes: &[(&str, Value)]) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, changes) in nodes {
            let mut node = json!({
                "metadata": { "name": name, "labels": { "name": name } },
                "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } },
            });
            json_patch::merge(&mut node, changes);
            cluster.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
        }
        cluster
    }

    fn three() -> Cluster {
        cluster(&[("a", json!({})), ("b", json!({})), ("c", json!({}))])
    }

    fn pod(uid: &str, owner: &str, cpu: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": uid, "uid": uid, "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner,
                  "controller": true } ] },
            "spec": { "containers": [
                { "name": "c", "resources": { "requests": { "cpu": cpu } } } ] },
        }))
        .unwrap()
    }

    fn choose(cluster: &Cluster, pod: &Pod) -> String {
        let (info, view) = (Info::of(pod), cluster.view());
        let question = Question::new(pod, &info, &view);
        best(&question, &view.nodes, &view).unwrap().to_owned()
    }

    fn place(cluster: &mut Cluster, pods: impl IntoIterator<Item = Pod>) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for pod in pods {
            let node = choose(cluster, &pod);
            cluster.assume(&pod, &node);
            *counts.entry(node).or_default() += 1;
        }
        counts
    }

    #[test]
    fn pods_of_one_owner_are_spread_evenly() {
        let mut cluster = three();
        let counts = place(&mut cluster, (0..6).map(|n| pod(&n.to_string(), "set", "0")));
        assert_eq!(counts, ["a", "b", "c"].map(|name| (name.to_owned(), 2)).into());
    }

    #[test]
    fn a_fuller_node_still_gets_its_share_of_an_owners_pods() {
        let mut cluster = three();
        cluster.assume(&pod("big", "other", "2"), "a");
        let counts = place(&mut cluster, (0..30).map(|n| pod(&n.to_string(), "set", "50m")));
        assert!(counts.values().all(|&count| count == 10), "{counts:?}");
    }

    #[test]
    fn a_pod_alone_goes_where_most_is_free() {
        let mut cluster = three();
        cluster.assume(&pod("1", "x", "2"), "a");
        cluster.assume(&pod("2", "y", "1"), "b");
        assert_eq!(choose(&cluster, &pod("3", "z", "1")), "c");
    }

    #[test]
    fn pods_that_ask_for_nothing_count_for_something() {
        let mut cluster = three();
        let counts = place(
            &mut cluster,
            (0..9).map(|n| pod(&n.to_string(), &n.to_string(), "0")),
        );
        assert!(counts.values().all(|&count| count == 3), "{counts:?}");
    }

    #[test]
    fn pods_that_leave_are_not_counted_in_spreading() {
        let mut cluster = three();
        for (uid, node) in [("1", "a"), ("2", "b"), ("3", "c")] {
            let mut pod = pod(uid, "set", "0");
            pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
            if node == "b" {
                let now = jiff::Timestamp::UNIX_EPOCH;
                pod.metadata.deletion_timestamp = Some(now.into());
            }
            cluster.set_pod(&pod);
        }
        assert_eq!(choose(&cluster, &pod("4", "set", "0")), "b");
    }

    #[test]
    fn disliked_nodes_are_avoided_and_preferred_ones_chosen() {
        let taints = json!({ "spec": { "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] } });
        let cluster = cluster(&[("a", taints), ("b", json!({})), ("c", json!({}))]);
        assert_eq!(choose(&cluster, &pod("1", "x", "0")), "b");
        let expression = json!({ "key": "name", "operator": "In", "values": ["c"] });
        let term = json!({ "weight": 1, "preference": { "matchExpressions": [expression] } });
        let affinity = json!({ "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [term] } });
        let mut pod = pod("1", "x", "0");
        pod.spec.as_mut().unwrap().affinity = Some(serde_json::from_value(affinity).unwrap());
        assert_eq!(choose(&cluster, &pod), "c");
    }
}
