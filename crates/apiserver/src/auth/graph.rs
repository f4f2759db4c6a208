//! What each node's pods use: the view behind the node authorizer.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use store::Change;

use super::view::Content;
use crate::object::{list, text};

/// Which objects are used by pods of which nodes.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// The pods that are bound to a node, by their keys.
    pods: HashMap<String, Pod>,
    /// How many pods of each node use an object: resource, namespace and name.
    uses: HashMap<Used, HashMap<Box<str>, u32>>,
}

#[derive(Debug)]
struct Pod {
    node: Box<str>,
    uses: Box<[Used]>,
}

/// A namespaced object of the core group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Used {
    resource: &'static str,
    namespace: Box<str>,
    name: Box<str>,
}

const CLAIMS: &str = "persistentvolumeclaims";
const CONFIG_MAPS: &str = "configmaps";
const SECRETS: &str = "secrets";
const ACCOUNTS: &str = "serviceaccounts";

impl Content for Graph {
    const PREFIX: &'static str = "/registry/core/pods/";

    fn put(&mut self, key: &str, object: &[u8], change: Change) {
        // What a bound pod uses is settled, but for containers that are added to look into it.
        let is_known = change == Change::Updated && self.pods.contains_key(key);
        if is_known && !contains(object, b"\"ephemeralContainers\"") || !contains(object, b"\"nodeName\"") {
            return;
        }
        self.remove(key);
        let Ok(pod) = serde_json::from_slice::<Value>(object) else {
            return;
        };
        let node: Box<str> = text(&pod, "/spec/nodeName").into();
        if node.is_empty() {
            return;
        }
        let uses: Box<[Used]> = used_by(&pod).into_iter().collect();
        for used in &uses {
            let nodes = self.uses.entry(used.clone()).or_default();
            *nodes.entry(node.clone()).or_default() += 1;
        }
        self.pods.insert(key.to_owned(), Pod { node, uses });
    }

    fn remove(&mut self, key: &str) {
        let Some(pod) = self.pods.remove(key) else {
            return;
        };
        for used in &pod.uses {
            let Some(nodes) = self.uses.get_mut(used) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&pod.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&pod.node);
                }
            }
            if nodes.is_empty() {
                self.uses.remove(used);
            }
        }
    }
}

impl Graph {
    /// Whether a pod of the node uses the object; pods themselves belong to their node.
    pub(super) fn relates(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
        if resource == "pods" {
            let pod = self.pods.get(&format!("{}{namespace}/{name}", Self::PREFIX));
            return pod.is_some_and(|pod| *pod.node == *node);
        }
        let resources = [CLAIMS, CONFIG_MAPS, SECRETS, ACCOUNTS];
        let Some(resource) = resources.into_iter().find(|known| *known == resource) else {
            return false;
        };
        let used = Used {
            resource,
            namespace: namespace.into(),
            name: name.into(),
        };
        self.uses.get(&used).is_some_and(|nodes| nodes.contains_key(node))
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Everything that a pod names. What a node runs without having been told to gives it no rights.
fn used_by(pod: &Value) -> BTreeSet<Used> {
    let mut used = BTreeSet::new();
    let annotations = &pod["metadata"]["annotations"];
    if annotations.get("kubernetes.io/config.mirror").is_some() {
        return used;
    }
    let (namespace, spec) = (text(pod, "/metadata/namespace"), &pod["spec"]);
    let mut add = |resource: &'static str, name: &str| {
        if !name.is_empty() {
            used.insert(Used {
                resource,
                namespace: namespace.into(),
                name: name.into(),
            });
        }
    };
    add(ACCOUNTS, text(spec, "/serviceAccountName"));
    for secret in list(spec, "/imagePullSecrets") {
        add(SECRETS, text(secret, "/name"));
    }
    for volume in list(spec, "/volumes") {
        for source in std::iter::once(volume).chain(list(volume, "/projected/sources")) {
            add(CONFIG_MAPS, text(source, "/configMap/name"));
            // Volumes spell a Secret's name in their own way.
            add(SECRETS, text(source, "/secret/secretName"));
            add(SECRETS, text(source, "/secret/name"));
        }
        add(CLAIMS, text(volume, "/persistentVolumeClaim/claimName"));
        if volume.get("ephemeral").is_some() {
            let claim = format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
            add(CLAIMS, &claim);
        }
    }
    let groups = ["/initContainers", "/containers", "/ephemeralContainers"];
    for container in groups.into_iter().flat_map(|group| list(spec, group)) {
        for variable in list(container, "/env") {
            add(CONFIG_MAPS, text(variable, "/valueFrom/configMapKeyRef/name"));
            add(SECRETS, text(variable, "/valueFrom/secretKeyRef/name"));
        }
        for source in list(container, "/envFrom") {
            add(CONFIG_MAPS, text(source, "/configMapRef/name"));
            add(SECRETS, text(source, "/secretRef/name"));
        }
    }
    used
}

/// What kind of objects a pod names, if any.
pub(super) fn names_objects(pod: &Value) -> Option<&'static str> {
    let used = used_by(&without_mark(pod));
    // The account that every pod is given isn't the node's choice.
    let used = used
        .into_iter()
        .find(|used| used.resource != ACCOUNTS || *used.name != *"default");
    used.map(|used| used.resource)
}

/// A mirror pod, looked at like any other.
fn without_mark(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("annotations");
    }
    pod
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str) -> Value {
        json!({ "metadata": { "name": name, "namespace": "ns" }, "spec": {
            "nodeName": node,
            "serviceAccountName": "robot",
            "volumes": [
                { "name": "a", "secret": { "secretName": "s1" } },
                { "name": "b", "configMap": { "name": "c1" } },
                { "name": "c", "projected": { "sources": [{ "secret": { "name": "s2" } }, { "configMap": { "name": "c2" } }] } },
                { "name": "d", "persistentVolumeClaim": { "claimName": "v1" } },
                { "name": "e", "ephemeral": { "volumeClaimTemplate": {} } },
            ],
            "imagePullSecrets": [{ "name": "s5" }],
            "initContainers": [{ "envFrom": [{ "secretRef": { "name": "s3" } }, { "configMapRef": { "name": "c3" } }] }],
            "containers": [{ "env": [
                { "name": "x", "valueFrom": { "secretKeyRef": { "name": "s4", "key": "k" } } },
                { "name": "y", "valueFrom": { "configMapKeyRef": { "name": "c4", "key": "k" } } },
            ] }],
        } })
    }

    fn put(graph: &mut Graph, pod: &Value) {
        let key = format!("{}ns/{}", Graph::PREFIX, text(pod, "/metadata/name"));
        let change = if graph.pods.contains_key(&key) {
            Change::Updated
        } else {
            Change::Created
        };
        graph.put(&key, pod.to_string().as_bytes(), change);
    }

    #[test]
    fn a_node_relates_to_what_its_pods_name_and_to_nothing_else() {
        let mut graph = Graph::default();
        put(&mut graph, &pod("p", ""));
        assert!(graph.uses.is_empty(), "a pod without a node relates nothing");
        put(&mut graph, &pod("p", "n1"));
        for (resource, names) in [
            ("secrets", &["s1", "s2", "s3", "s4", "s5"][..]),
            ("configmaps", &["c1", "c2", "c3", "c4"]),
            ("persistentvolumeclaims", &["v1", "p-e"]),
            ("serviceaccounts", &["robot"]),
            ("pods", &["p"]),
        ] {
            for name in names {
                assert!(graph.relates("n1", resource, "ns", name), "{resource} {name}");
                assert!(!graph.relates("n2", resource, "ns", name), "{resource} {name}");
                assert!(!graph.relates("n1", resource, "other", name), "{resource} {name}");
            }
        }
        assert!(!graph.relates("n1", "secrets", "ns", "c1"));
        assert!(!graph.relates("n1", "services", "ns", "c1"));
    }

    #[test]
    fn the_last_pod_takes_the_relation_with_it() {
        let mut graph = Graph::default();
        put(&mut graph, &pod("p", "n1"));
        put(&mut graph, &pod("q", "n1"));
        put(&mut graph, &pod("q", "n1"));
        graph.remove(&format!("{}ns/p", Graph::PREFIX));
        assert!(graph.relates("n1", "secrets", "ns", "s1"));
        graph.remove(&format!("{}ns/q", Graph::PREFIX));
        assert!(!graph.relates("n1", "secrets", "ns", "s1"));
        assert!(graph.uses.is_empty() && graph.pods.is_empty());
    }

    #[test]
    fn a_container_that_is_added_later_counts_and_a_mirror_pod_does_not() {
        let mut graph = Graph::default();
        let mut pod = pod("p", "n1");
        put(&mut graph, &pod);
        pod["spec"]["ephemeralContainers"] = json!([{ "envFrom": [{ "secretRef": { "name": "late" } }] }]);
        put(&mut graph, &pod);
        assert!(graph.relates("n1", "secrets", "ns", "late"));
        pod["metadata"] =
            json!({ "name": "m", "namespace": "ns", "annotations": { "kubernetes.io/config.mirror": "x" } });
        pod["spec"]["imagePullSecrets"] = json!([{ "name": "other" }]);
        put(&mut graph, &pod);
        assert!(!graph.relates("n1", "secrets", "ns", "other"));
    }
}
