//! Network policies that look wrong: what can't be read of them, names of ports that no pod has,
//! selectors that match nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client};
use kube_objects::namespaced_name;
use model::{
    Direction, Labels, NamedPort, NamespacedName, Policy, PolicyPeer, PolicyPod, PortMatch, Selector,
};
use serde::de::DeserializeOwned;

use crate::report::Row;

const CHECK: &str = "network policies";
/// How long the API may take to list them, and what they are about.
const LIMIT: Duration = Duration::from_secs(20);

/// What the cluster's policies are to be compared with.
#[derive(Debug, Default)]
struct Cluster {
    pods: BTreeMap<NamespacedName, PolicyPod>,
    namespaces: BTreeMap<String, Labels>,
}

/// What a policy says that is perhaps not meant.
#[derive(Debug, PartialEq, Eq)]
enum Doubt {
    /// It doesn't do what it says.
    Wrong(String),
    /// It does nothing, for now.
    Idle(String),
}

/// Every policy of the cluster.
pub(crate) async fn rows(client: &Client) -> Vec<Row> {
    let lists = async {
        tokio::try_join!(
            list::<NetworkPolicy>(Api::all(client.clone())),
            list::<Pod>(Api::all(client.clone())),
            list::<Namespace>(Api::all(client.clone())),
        )
    };
    let (policies, pods, namespaces) = match tokio::time::timeout(LIMIT, lists).await {
        Ok(Ok(lists)) => lists,
        Ok(Err(error)) => return vec![Row::skipped(CHECK, format!("they can't be listed: {error}"))],
        Err(_) => {
            return vec![Row::skipped(
                CHECK,
                "they can't be listed: the API doesn't answer in time",
            )];
        }
    };
    let pods = pods.iter().filter(|pod| !kube_objects::is_finished(pod));
    let pods = pods.map(|pod| (namespaced_name(&pod.metadata), kube_objects::pod(pod).0));
    let namespaces = namespaces.iter().map(|one| {
        let name = one.metadata.name.clone().unwrap_or_default();
        (name, kube_objects::namespace(one))
    });
    let cluster = Cluster {
        pods: pods.collect(),
        namespaces: namespaces.collect(),
    };
    policies.iter().flat_map(|policy| row(policy, &cluster)).collect()
}

async fn list<K: Clone + Debug + DeserializeOwned>(api: Api<K>) -> Result<Vec<K>, kube::Error> {
    Ok(api.list(&ListParams::default()).await?.items)
}

fn row(object: &NetworkPolicy, cluster: &Cluster) -> Vec<Row> {
    let name = namespaced_name(&object.metadata);
    let (policy, problems) = kube_objects::policy(object);
    let unread = problems.iter().map(|problem| Doubt::Wrong(problem.to_string()));
    let doubts: Vec<Doubt> = unread.chain(doubts(&name, &policy, cluster)).collect();
    if doubts.is_empty() {
        return vec![Row::passed(CHECK, name.to_string(), "all that it names is there")];
    }
    let next = format!(
        "`kubectl describe networkpolicy -n {} {}`",
        name.namespace, name.name
    );
    let row = |doubt| match doubt {
        Doubt::Wrong(what) => Row::failed(CHECK, name.to_string(), what, next.clone()),
        Doubt::Idle(what) => Row::skipped(CHECK, format!("{name}: {what}")),
    };
    doubts.into_iter().map(row).collect()
}

fn doubts(name: &NamespacedName, policy: &Policy, cluster: &Cluster) -> Vec<Doubt> {
    let own: Vec<&PolicyPod> = cluster.selected(None, &policy.pods, &name.namespace);
    let mut doubts = Vec::new();
    if own.is_empty() {
        doubts.push(Doubt::Idle(format!("it selects no pod: {}", words(&policy.pods))));
    }
    for direction in Direction::ALL {
        for (index, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
            let at = format!("{direction} rule {index}");
            let mut peers: Vec<&PolicyPod> = Vec::new();
            for peer in rule.peers.iter().flatten() {
                let PolicyPeer::Pods { namespaces, pods } = peer else {
                    continue;
                };
                let found = cluster.selected(namespaces.as_ref(), pods, &name.namespace);
                // The cluster's DNS is a pod to policies, and none that the API has.
                if found.is_empty() && !cluster.is_dns(namespaces.as_ref(), pods, &name.namespace) {
                    doubts.push(Doubt::Idle(format!("{at} matches nothing by {peer}")));
                }
                peers.extend(found);
            }
            let everybody = || cluster.pods.values().collect();
            let receivers = match direction {
                Direction::Ingress => own.clone(),
                Direction::Egress if rule.peers.is_none() => everybody(),
                Direction::Egress => peers,
            };
            for port in rule.ports.iter().flatten() {
                let PortMatch::Named(port_name) = &port.ports else {
                    continue;
                };
                let has = |one: &NamedPort| one.name == *port_name && one.protocol == port.protocol;
                let known = receivers.iter().any(|pod| pod.ports.iter().any(has));
                if !known && !receivers.is_empty() {
                    doubts.push(Doubt::Wrong(format!(
                        "{at} is for the port {port}, which no pod has that it's about"
                    )));
                }
            }
        }
    }
    doubts
}

impl Cluster {
    fn selected(&self, namespaces: Option<&Selector>, pods: &Selector, own: &str) -> Vec<&PolicyPod> {
        let selected = self.pods.iter().filter(|(name, pod)| {
            self.is_in(namespaces, &name.namespace, own) && !pod.host_network && pods.matches(&pod.labels)
        });
        selected.map(|(_, pod)| pod).collect()
    }

    fn is_dns(&self, namespaces: Option<&Selector>, pods: &Selector, own: &str) -> bool {
        let labels = Labels::from([("k8s-app".to_owned(), "kube-dns".to_owned())]);
        self.is_in(namespaces, "kube-system", own) && pods.matches(&labels)
    }

    fn is_in(&self, namespaces: Option<&Selector>, namespace: &str, own: &str) -> bool {
        match namespaces {
            None => namespace == own,
            Some(selector) => {
                let labels = self.namespaces.get(namespace);
                labels.is_some_and(|labels| selector.matches(labels))
            }
        }
    }
}

fn words(selector: &Selector) -> String {
    if selector.is_everything() {
        "there is none in its namespace".to_owned()
    } else {
        format!("none in its namespace has {selector}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cluster() -> Cluster {
        let pod = json!({
            "metadata": {"name": "db", "namespace": "default", "labels": {"role": "db"}},
            "spec": {"containers": [{"name": "a", "ports": [{"name": "redis", "containerPort": 6379}]}]},
        });
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        let namespaces = ["default", "kube-system"].map(|name| (name.to_owned(), Labels::new()));
        Cluster {
            pods: BTreeMap::from([(namespaced_name(&pod.metadata), kube_objects::pod(&pod).0)]),
            namespaces: namespaces.into(),
        }
    }

    fn told(spec: Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
        let rows = row(
            &serde_json::from_value(object).expect("a NetworkPolicy"),
            &cluster(),
        );
        rows.iter()
            .map(|row| format!("{} {:?}", row.path, row.outcome))
            .collect()
    }

    #[test]
    fn a_policy_whose_names_are_all_there_is_well() {
        let told = told(json!({
            "podSelector": {"matchLabels": {"role": "db"}},
            "ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": "redis"}]}],
            "egress": [{"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]}],
        }));
        assert!(told[0].contains("Passed"), "{told:?}");
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn what_names_nothing_is_told() {
        let told = told(json!({
            "podSelector": {},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "frontend"}}}], "ports": [{"port": "http"}]}],
        }));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("Skipped") && told[0].contains("pods with role=frontend"),
            "{told:?}"
        );
        assert!(
            told[1].contains("Failed") && told[1].contains("http/tcp"),
            "{told:?}"
        );
    }

    #[test]
    fn a_policy_of_nobody_and_one_that_cannot_be_read_are_told() {
        let idle = told(json!({"podSelector": {"matchLabels": {"role": "cache"}}}));
        assert!(
            idle[0].contains("none in its namespace has role=cache"),
            "{idle:?}"
        );
        let wrong = told(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 0}]}]}));
        assert!(
            wrong[0].contains("Failed") && wrong[0].contains("0 isn't a port"),
            "{wrong:?}"
        );
    }
}
