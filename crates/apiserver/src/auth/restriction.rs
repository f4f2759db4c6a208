//! NodeRestriction: what a node writes is about itself and its own pods, whatever its other rights are.

use kinds::Kind;
use serde_json::Value;

use super::identity::Identity;
use crate::object::{list, text};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels below this are promises about nodes, which nodes don't make.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Of Kubernetes' own labels, those that a kubelet sets on its Node …
const KUBELET_LABELS: [&str; 12] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// … and the domains below which it may choose.
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

fn forbid<T>(subject: Subject<'_>, why: &str) -> Result<T, Failure> {
    Err(Failure::forbidden(subject, why))
}

/// An object that a node creates.
pub(crate) fn create(
    server: &ApiServer,
    identity: &Identity,
    kind: &Kind,
    object: &Value,
) -> Result<(), Failure> {
    let Some(node) = identity.node() else {
        return Ok(());
    };
    let name = text(object, "/metadata/name");
    let subject = Subject::of(kind, name);
    match (kind.group(), kind.plural()) {
        ("", "nodes") => {
            own_node(node, subject)?;
            let labels = forbidden_labels(object, &Value::Null);
            if labels.is_empty() {
                return Ok(());
            }
            let labels = labels.join(", ");
            let why = format!("node {node:?} is not allowed to set the following labels: {labels}");
            forbid(subject, &why)
        }
        ("coordination.k8s.io", "leases") => {
            if is_own_lease(node, text(object, "/metadata/namespace"), name) {
                return Ok(());
            }
            let why = "can only access node lease with the same name as the requesting node";
            forbid(subject, why)
        }
        ("storage.k8s.io", "csinodes") if name != node => {
            let why = "can only access CSINode with the same name as the requesting node";
            forbid(subject, why)
        }
        ("", "pods") => mirror_pod(server, node, subject, object),
        _ => Ok(()),
    }
}

/// The kubelet's Lease, or the agent's, which says that the node can announce addresses.
fn is_own_lease(node: &str, namespace: &str, name: &str) -> bool {
    match namespace {
        super::node::LEASES => name == node,
        "kube-system" => name.strip_prefix("announcer-") == Some(node),
        _ => false,
    }
}

fn own_node(node: &str, subject: Subject<'_>) -> Result<(), Failure> {
    if subject.name == node {
        return Ok(());
    }
    let why = format!("node {node:?} is not allowed to modify node {:?}", subject.name);
    forbid(subject, &why)
}

/// A pod that a node runs by itself, shown in the API.
fn mirror_pod(server: &ApiServer, node: &str, subject: Subject<'_>, pod: &Value) -> Result<(), Failure> {
    if pod["metadata"]["annotations"].get(MIRROR).is_none() {
        let why =
            format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods");
        return forbid(subject, &why);
    }
    if text(pod, "/spec/nodeName") != node {
        let why = format!("node {node:?} can only create pods with spec.nodeName set to itself");
        return forbid(subject, &why);
    }
    let [owner] = list(pod, "/metadata/ownerReferences") else {
        let why = format!("node {node:?} can only create pods with a single owner reference set to itself");
        return forbid(subject, &why);
    };
    let is_own = (
        text(owner, "/apiVersion"),
        text(owner, "/kind"),
        text(owner, "/name"),
    ) == ("v1", "Node", node);
    if !is_own || owner["controller"] != true || owner["blockOwnerDeletion"] == true {
        let why =
            format!("node {node:?} can only create pods with a controller owner reference set to itself");
        return forbid(subject, &why);
    }
    let found = server.find_core("nodes", None, node)?;
    let (uid, found) = (text(owner, "/uid"), text(&found, "/metadata/uid"));
    if uid != found {
        let why = format!("node {node} UID mismatch: expected {uid} got {found}");
        return forbid(subject, &why);
    }
    match super::graph::names_objects(pod) {
        Some(what) => {
            let why = format!("node {node:?} can not create pods that reference {what}");
            forbid(subject, &why)
        }
        None => Ok(()),
    }
}

/// An object that a node changes; `status` says whether through that subresource.
pub(crate) fn update(
    identity: &Identity,
    kind: &Kind,
    status: bool,
    old: &Value,
    new: &Value,
) -> Result<(), Failure> {
    let Some(node) = identity.node() else {
        return Ok(());
    };
    let subject = Subject::of(kind, text(old, "/metadata/name"));
    match (kind.group(), kind.plural(), status) {
        ("", "nodes", _) => node_update(node, subject, old, new),
        ("", "pods", true) => {
            if text(old, "/spec/nodeName") != node {
                let why = format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                );
                return forbid(subject, &why);
            }
            if old["metadata"]["labels"] != new["metadata"]["labels"] {
                let why = format!("node {node:?} cannot update labels through pod status");
                return forbid(subject, &why);
            }
            Ok(())
        }
        ("", "pods", false) => {
            let why = format!(
                "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
            );
            forbid(subject, &why)
        }
        ("", "persistentvolumeclaims", false) => forbid(subject, "may only update PVC status"),
        ("coordination.k8s.io", "leases", _)
            if !is_own_lease(node, text(new, "/metadata/namespace"), subject.name) =>
        {
            forbid(
                subject,
                "can only access node lease with the same name as the requesting node",
            )
        }
        _ => Ok(()),
    }
}

fn node_update(node: &str, subject: Subject<'_>, old: &Value, new: &Value) -> Result<(), Failure> {
    own_node(node, subject)?;
    if old["spec"]["taints"] != new["spec"]["taints"] {
        return forbid(subject, &format!("node {node:?} is not allowed to modify taints"));
    }
    if old["metadata"]["ownerReferences"] != new["metadata"]["ownerReferences"] {
        let why = format!("node {node:?} is not allowed to modify ownerReferences");
        return forbid(subject, &why);
    }
    let labels = forbidden_labels(new, old);
    if labels.is_empty() {
        return Ok(());
    }
    let why = format!("is not allowed to modify labels: {}", labels.join(", "));
    forbid(subject, &why)
}

/// The labels that a node changes and may not: it would draw workloads to itself.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let labels = |object: &Value| {
        object["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    let (new, old) = (labels(new), labels(old));
    let mut forbidden: Vec<_> = new
        .keys()
        .chain(old.keys())
        .filter(|key| new.get(*key) != old.get(*key) && !is_kubelets(key))
        .cloned()
        .collect();
    forbidden.sort();
    forbidden.dedup();
    forbidden
}

fn is_kubelets(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else {
        return true;
    };
    let below = |parent: &str| {
        domain
            .strip_suffix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if below(RESTRICTED) {
        return false;
    }
    let is_kubernetes = below("kubernetes.io") || below("k8s.io");
    !is_kubernetes || KUBELET_LABELS.contains(&label) || KUBELET_DOMAINS.into_iter().any(below)
}

/// A pod that a node deletes or evicts.
pub(crate) fn remove_pod(
    server: &ApiServer,
    identity: &Identity,
    subject: Subject<'_>,
    namespace: &str,
    what: &str,
) -> Result<(), Failure> {
    let Some(node) = identity.node() else {
        return Ok(());
    };
    let pod = server.find_core("pods", Some(namespace), subject.name)?;
    if text(&pod, "/spec/nodeName") == node {
        return Ok(());
    }
    let why = format!("node {node:?} can only {what} pods with spec.nodeName set to itself");
    forbid(subject, &why)
}

/// A token that a node asks for: bound to a pod that runs there and wants one of that audience.
pub(super) fn token(
    server: &ApiServer,
    identity: &Identity,
    subject: Subject<'_>,
    namespace: &str,
    request: &Value,
) -> Result<(), Failure> {
    let Some(node) = identity.node() else {
        return Ok(());
    };
    let bound = request.pointer("/spec/boundObjectRef").unwrap_or(&Value::Null);
    let (name, uid) = (text(bound, "/name"), text(bound, "/uid"));
    if (text(bound, "/apiVersion"), text(bound, "/kind")) != ("v1", "Pod") || name.is_empty() {
        return forbid(subject, "node requested token not bound to a pod");
    }
    if uid.is_empty() {
        return forbid(subject, "node requested token with a pod binding without a uid");
    }
    let pod = server.find_core("pods", Some(namespace), name)?;
    if text(&pod, "/metadata/uid") != uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return forbid(subject, &why);
    }
    if text(&pod, "/spec/nodeName") != node {
        return forbid(
            subject,
            "node requested token bound to a pod scheduled on a different node",
        );
    }
    let audience = match list(request, "/spec/audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return forbid(subject, "node may only request 0 or 1 audiences"),
    };
    let sources = list(&pod, "/spec/volumes")
        .iter()
        .flat_map(|volume| list(volume, "/projected/sources"));
    let wanted = sources
        .filter_map(|source| source.get("serviceAccountToken"))
        .any(|token| text(token, "/audience") == audience);
    if wanted {
        return Ok(());
    }
    let why = format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        identity.user
    );
    forbid(subject, &why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_the_kubelets_or_nobodys_business() {
        for label in [
            "colour",
            "example.com/x",
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
            "kubelet.kubernetes.io/anything",
            "sub.node.kubernetes.io/anything",
            "notkubernetes.io/x",
        ] {
            assert!(is_kubelets(label), "{label}");
        }
        for label in [
            "node-role.kubernetes.io/control-plane",
            "kubernetes.io/other",
            "k8s.io/x",
            "a.k8s.io/x",
            "node-restriction.kubernetes.io/x",
            "team.node-restriction.kubernetes.io/x",
        ] {
            assert!(!is_kubelets(label), "{label}");
        }
    }

    #[test]
    fn a_change_of_labels_is_what_counts() {
        let with = |labels: Value| json!({ "metadata": { "labels": labels } });
        let old = with(json!({ "node-role.kubernetes.io/x": "", "a": "b" }));
        assert_eq!(
            forbidden_labels(&with(json!({ "node-role.kubernetes.io/x": "", "a": "c" })), &old),
            [""; 0]
        );
        assert_eq!(
            forbidden_labels(&with(json!({ "a": "b" })), &old),
            ["node-role.kubernetes.io/x"]
        );
        let set = forbidden_labels(&with(json!({ "k8s.io/y": "" })), &Value::Null);
        assert_eq!(set, ["k8s.io/y"]);
    }
}
