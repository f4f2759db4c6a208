//! Makes room for a pod by taking it from others that come after it (the plugin DefaultPreemption).

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{Selector, SelectorExt};

use crate::cluster::{NodeState, View};
use crate::filter::{Question, Reason, counted};
use crate::info::{self, Info};

/// How many more of some pods may be disrupted.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    namespace: String,
    selector: Selector,
    allowed: i32,
    /// Pods whose disruption is counted already.
    counted: Vec<String>,
}

impl Budget {
    /// A budget without a selector is one of nobody.
    pub(crate) fn of(budget: &PodDisruptionBudget) -> Option<Self> {
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        Some(Self {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            selector: info::selector(budget.spec.as_ref()?.selector.as_ref()?)?,
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            counted: disrupted
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
        })
    }

    fn is_of(&self, pod: &Info) -> bool {
        self.namespace == pod.namespace
            && self.selector.matches(&pod.labels)
            && !self.counted.contains(&pod.name)
    }
}

/// Pods that go, so that another can have their node.
#[derive(Debug, Clone)]
pub(crate) struct Sacrifice {
    pub(crate) node: String,
    /// The most important first.
    pub(crate) victims: Vec<Arc<Info>>,
    /// How many of them a budget would spare.
    violations: usize,
}

/// Why nobody goes for a pod, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: String,
    /// Somebody goes already: the room that is made stays the pod's.
    pub(crate) is_waiting: bool,
}

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            is_waiting: false,
        }
    }
}

/// Finds those whom it hurts least. `verdicts` are what each node of the view said, `nominated` is the node
/// on which room is being made for the pod already.
pub(crate) fn find(
    pod: &Pod,
    info: &Info,
    view: &View<'_>,
    verdicts: &[Vec<Reason>],
    nominated: Option<&NodeState>,
    budgets: &[Budget],
) -> Result<Sacrifice, Refusal> {
    let policy = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        let why = "preemption: not eligible due to preemptionPolicy=Never.";
        return Err(Refusal::new(why));
    }
    let is_going = |state: &NodeState| lower(info, state).any(|victim| victim.leaving);
    if nominated.is_some_and(is_going) {
        return Err(Refusal {
            why: "preemption: not eligible due to a terminating pod on the nominated node.".to_owned(),
            is_waiting: true,
        });
    }
    let (mut found, mut reasons) = (Vec::new(), Vec::new());
    for (index, verdict) in verdicts.iter().enumerate() {
        match sacrifice(pod, info, view, index, verdict, budgets) {
            Ok(sacrifice) => found.push(sacrifice),
            Err(why) => reasons.extend(why),
        }
    }
    found.into_iter().min_by_key(Sacrifice::harm).ok_or_else(|| {
        let nodes = view.nodes.len();
        let reasons = counted(reasons.into_iter());
        Refusal::new(format!("preemption: 0/{nodes} nodes are available: {reasons}."))
    })
}

fn lower<'a>(info: &Info, state: &'a NodeState) -> impl Iterator<Item = &'a Arc<Info>> {
    let priority = info.priority;
    let pods = state.pods.values().map(|placed| &placed.info);
    pods.filter(move |other| other.priority < priority)
}

fn sacrifice(
    pod: &Pod,
    info: &Info,
    view: &View<'_>,
    index: usize,
    verdict: &[Reason],
    budgets: &[Budget],
) -> Result<Sacrifice, Vec<String>> {
    if !verdict.iter().all(Reason::is_about_pods) {
        return Err(vec!["Preemption is not helpful for scheduling".to_owned()]);
    }
    let (name, before) = view.nodes[index];
    let mut candidates: Vec<Arc<Info>> = lower(info, before).cloned().collect();
    if candidates.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    let mut state = before.clone();
    for candidate in &candidates {
        state.take(&candidate.uid);
    }
    let told = |reasons: Vec<Reason>| reasons.iter().map(ToString::to_string).collect::<Vec<_>>();
    ask(pod, info, view, index, &state).map_err(told)?;
    candidates.sort_by_key(|candidate| importance(candidate));
    let (violating, others) = split(candidates, budgets);
    let (mut victims, mut violations) = (Vec::new(), 0);
    // Who can stay does: first those that a budget would spare.
    for (candidate, is_violating) in violating
        .into_iter()
        .map(|candidate| (candidate, true))
        .chain(others.into_iter().map(|candidate| (candidate, false)))
    {
        state.put(Arc::clone(&candidate), false);
        if ask(pod, info, view, index, &state).is_err() {
            state.take(&candidate.uid);
            violations += usize::from(is_violating);
            victims.push(candidate);
        }
    }
    victims.sort_by_key(|victim| importance(victim));
    Ok(Sacrifice {
        node: name.to_owned(),
        victims,
        violations,
    })
}

/// Asks a node as it would be.
fn ask(pod: &Pod, info: &Info, view: &View<'_>, index: usize, state: &NodeState) -> Result<(), Vec<Reason>> {
    let mut changed = View {
        nodes: view.nodes.clone(),
        namespaces: view.namespaces,
    };
    changed.nodes[index].1 = state;
    Question::new(pod, info, &changed).filter(state)
}

/// The most important pods have the smallest key: of high priority, and long there.
fn importance(info: &Info) -> (Reverse<i32>, Timestamp) {
    (Reverse(info.priority), info.started.unwrap_or(Timestamp::MAX))
}

/// Those whose going a budget doesn't allow, and the others.
fn split(candidates: Vec<Arc<Info>>, budgets: &[Budget]) -> (Vec<Arc<Info>>, Vec<Arc<Info>>) {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    candidates.into_iter().partition(|candidate| {
        let mut violates = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            if budget.is_of(candidate) {
                *left -= 1;
                violates |= *left < 0;
            }
        }
        violates
    })
}

impl Sacrifice {
    /// By what Kubernetes compares: broken budgets, the highest priority, the sum of all, how many; then the
    /// one whose most important victim began last.
    fn harm(&self) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
        let priorities = || self.victims.iter().map(|victim| victim.priority);
        let highest = priorities().max().unwrap_or(i32::MIN);
        // Each counts, also one of a negative priority.
        let sum = priorities()
            .map(|priority| i64::from(priority) - i64::from(i32::MIN))
            .sum();
        let most = self.victims.iter().filter(|victim| victim.priority == highest);
        let began = most.filter_map(|victim| victim.started).min();
        let began = began.unwrap_or(Timestamp::MAX);
        (self.violations, highest, sum, self.victims.len(), Reverse(began))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Cluster;
    use crate::fixture::{asking, node, pod};

    /// Nodes of 4 CPUs, with pods: name, node, CPUs, priority, when it began.
    fn cluster(nodes: &[&str], pods: &[(&str, &str, &str, i32, &str)]) -> Cluster {
        let mut cluster = Cluster::default();
        for name in nodes {
            cluster.set_node(&node(name, json!({})));
        }
        for (name, node, cpu, priority, began) in pods {
            let mut changes = asking(cpu, *priority);
            changes["metadata"] = json!({ "labels": { "name": name } });
            changes["status"] = json!({ "startTime": format!("2026-11-21T12:00:0{began}Z") });
            cluster.assume(&pod(name, changes), node);
        }
        cluster
    }

    fn find_for(cluster: &Cluster, changes: Value, budgets: &[Budget]) -> Result<String, String> {
        let pod = pod("new", changes);
        let (info, view) = (Info::of(&pod), cluster.view());
        let question = Question::new(&pod, &info, &view);
        let verdicts = view.nodes.iter().map(|(_, state)| question.filter(state));
        let verdicts: Vec<_> = verdicts.map(|verdict| verdict.unwrap_err()).collect();
        let nominated = cluster.nomination("new");
        let found = find(&pod, &info, &view, &verdicts, nominated, budgets);
        let found = found.map_err(|refusal| refusal.why)?;
        let victims: Vec<_> = found.victims.iter().map(|victim| victim.name.as_str()).collect();
        Ok(format!("{}: {}", found.node, victims.join(" ")))
    }

    fn budget(name: &str, allowed: i32) -> Budget {
        let budget = json!({ "metadata": { "namespace": "default" },
            "spec": { "selector": { "matchLabels": { "name": name } } },
            "status": { "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
                        "expectedPods": 1 } });
        Budget::of(&serde_json::from_value(budget).unwrap()).unwrap()
    }

    #[test]
    fn as_few_as_possible_go_and_the_least_important_first() {
        let pods = [
            ("old", "a", "1", 0, "1"),
            ("young", "a", "1", 0, "2"),
            ("better", "a", "1", 5, "3"),
            ("equal", "a", "1", 10, "4"),
        ];
        let cluster = cluster(&["a"], &pods);
        assert_eq!(find_for(&cluster, asking("1", 10), &[]).unwrap(), "a: young");
        assert_eq!(find_for(&cluster, asking("2", 10), &[]).unwrap(), "a: old young");
        assert_eq!(
            find_for(&cluster, asking("3", 10), &[]).unwrap(),
            "a: better old young"
        );
    }

    #[test]
    fn the_node_where_it_hurts_least_is_taken() {
        let pods = [
            ("important", "a", "4", 5, "1"),
            ("one", "b", "2", 1, "1"),
            ("two", "b", "2", 1, "1"),
            ("long-there", "c", "4", 1, "1"),
            ("just-begun", "d", "4", 1, "2"),
        ];
        let cluster = cluster(&["a", "b", "c", "d"], &pods);
        assert_eq!(find_for(&cluster, asking("3", 10), &[]).unwrap(), "d: just-begun");
        // A budget that has nothing left is kept, if that is possible.
        let budgets = [budget("just-begun", 0), budget("long-there", 1)];
        assert_eq!(
            find_for(&cluster, asking("3", 10), &budgets).unwrap(),
            "c: long-there"
        );
    }

    #[test]
    fn a_budget_spares_pods_on_a_node_where_others_can_go() {
        let pods = [("spared", "a", "2", 0, "2"), ("other", "a", "2", 1, "1")];
        let cluster = cluster(&["a"], &pods);
        assert_eq!(find_for(&cluster, asking("2", 10), &[]).unwrap(), "a: spared");
        let budgets = [budget("spared", 0)];
        assert_eq!(find_for(&cluster, asking("2", 10), &budgets).unwrap(), "a: other");
    }

    #[test]
    fn pods_that_keep_it_away_can_go_too() {
        let mut cluster = cluster(&["a"], &[]);
        let labels = json!({ "zone": "z" });
        cluster.set_node(&node("a", json!({ "metadata": { "labels": labels } })));
        let term = json!({ "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "x" } } });
        let anti = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        cluster.assume(&pod("guard", json!({ "spec": { "affinity": anti } })), "a");
        let new = json!({ "metadata": { "labels": { "app": "x" } }, "spec": { "priority": 1 } });
        assert_eq!(find_for(&cluster, new, &[]).unwrap(), "a: guard");
    }

    #[test]
    fn why_nobody_goes_is_told() {
        let cluster = cluster(&["a", "b"], &[("equal", "a", "4", 10, "1")]);
        let why = find_for(&cluster, asking("5", 10), &[]).unwrap_err();
        assert_eq!(
            why,
            "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        );
        let mut never = asking("5", 10);
        never["spec"]["preemptionPolicy"] = json!("Never");
        let why = find_for(&cluster, never, &[]).unwrap_err();
        assert_eq!(why, "preemption: not eligible due to preemptionPolicy=Never.");
    }

    #[test]
    fn equals_are_no_victims() {
        let cluster = cluster(&["a"], &[("equal", "a", "4", 10, "1")]);
        let why = find_for(&cluster, asking("1", 10), &[]).unwrap_err();
        let none = "1 No preemption victims found for incoming pod";
        assert_eq!(why, format!("preemption: 0/1 nodes are available: {none}."));
    }

    #[test]
    fn who_waits_for_victims_to_go_takes_no_others() {
        let mut cluster = cluster(&["a", "b"], &[("staying", "b", "4", 0, "1")]);
        let mut leaving = asking("4", 0);
        leaving["metadata"] = json!({ "deletionTimestamp": "2026-11-21T12:00:00Z" });
        cluster.assume(&pod("leaving", leaving), "a");
        let new = pod("new", asking("4", 10));
        cluster.nominate(&Arc::new(Info::of(&new)), "a");
        let why = find_for(&cluster, asking("4", 10), &[]).unwrap_err();
        assert!(why.contains("a terminating pod on the nominated node"), "{why}");
    }
}
