//! The node authorizer: a node reads what its pods need, and asks to write about itself and its pods.
//!
//! Which objects it may write is for [`super::restriction`] to say, which sees them.

use store::Store;

use super::authorize::Action;
use super::graph::Graph;
use super::view::View;

/// The namespace of the nodes' leases.
pub(super) const LEASES: &str = "kube-node-lease";

/// What every node may do to resources whose objects aren't told apart: group, resource and verbs.
const RULES: &[(&str, &str, &[&str])] = &[
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "localsubjectaccessreviews", &["create"]),
    ("", "services", &["get", "list", "watch"]),
    ("", "events", &["create", "patch", "update"]),
    ("events.k8s.io", "events", &["create", "patch", "update"]),
    ("", "endpoints", &["get"]),
    (
        "certificates.k8s.io",
        "certificatesigningrequests",
        &["create", "get", "list", "watch"],
    ),
    ("storage.k8s.io", "csidrivers", &["get", "list", "watch"]),
    ("storage.k8s.io", "volumeattachments", &["get"]),
    ("node.k8s.io", "runtimeclasses", &["get", "list", "watch"]),
];

/// What nodes may do.
pub(crate) struct Nodes(View<Graph>);

/// Why a node may not; Kubernetes' words, where it has any.
type Refusal = String;

impl Nodes {
    pub(crate) fn new(store: &Store) -> Result<Nodes, store::Error> {
        View::new(store).map(Nodes)
    }

    /// Whether the node may do it, or why not.
    pub(crate) fn authorize(
        &self,
        store: &Store,
        node: &str,
        action: &Action<'_>,
    ) -> Result<Result<(), Refusal>, store::Error> {
        let related = || {
            let Action {
                resource,
                namespace,
                name,
                ..
            } = *action;
            self.0
                .ask(store, |graph| graph.relates(node, resource, namespace, name))
        };
        Ok(match rule(node, action) {
            Ok(Condition::None) => Ok(()),
            Ok(Condition::Related) if action.name.is_empty() => Err("No Object name found".to_owned()),
            Ok(Condition::Related) if related()? => Ok(()),
            Ok(Condition::Related) => Err(format!(
                "no relationship found between node '{node}' and this object"
            )),
            Err(why) => Err(why),
        })
    }
}

/// On what it still depends whether the node may.
#[derive(Debug, PartialEq, Eq)]
enum Condition {
    None,
    /// A pod of the node must use the object.
    Related,
}

fn rule(node: &str, action: &Action<'_>) -> Result<Condition, Refusal> {
    let Action {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
        ..
    } = *action;
    let reads = matches!(verb, "get" | "list" | "watch");
    let refuse = |why: &str| Err(why.to_owned());
    match (group, resource, subresource) {
        ("", "configmaps" | "secrets", _) if !reads => refuse("can only read resources of this type"),
        ("", "configmaps" | "secrets", "") if namespace.is_empty() => {
            refuse("can only read namespaced object of this type")
        }
        ("", "configmaps" | "secrets", "") => Ok(Condition::Related),
        ("", "configmaps" | "secrets", _) => refuse("cannot read subresource"),
        ("", "persistentvolumeclaims", "status") if matches!(verb, "update" | "patch") => {
            Ok(Condition::Related)
        }
        ("", "persistentvolumeclaims", "status") => refuse("can only get/update/patch this type"),
        ("", "persistentvolumeclaims", "") if verb == "get" => Ok(Condition::Related),
        ("", "persistentvolumeclaims", _) => refuse("can only get individual resources of this type"),
        ("", "serviceaccounts", "") if verb == "get" => Ok(Condition::Related),
        ("", "serviceaccounts", "token") if verb == "create" && !name.is_empty() => Ok(Condition::Related),
        ("", "serviceaccounts", "token") => refuse("can only create tokens for individual service accounts"),
        ("", "serviceaccounts", _) => refuse("can only create token subresource of serviceaccount"),
        ("coordination.k8s.io", "leases", "") => lease(node, action),
        ("storage.k8s.io", "csinodes", "") => csi_node(node, action),
        ("", "nodes", _) => node_object(node, action),
        ("", "pods", _) => pod(node, action),
        _ => {
            let of_rule = |(g, r, verbs): &&(&str, &str, &[&str])| {
                *g == group && *r == resource && subresource.is_empty() && verbs.contains(&verb)
            };
            match RULES.iter().find(of_rule) {
                Some(_) => Ok(Condition::None),
                None => Err(String::new()),
            }
        }
    }
}

fn lease(node: &str, action: &Action<'_>) -> Result<Condition, Refusal> {
    if !matches!(action.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a node lease".to_owned());
    }
    if action.namespace != LEASES {
        return Err(format!(
            "can only access leases in the {LEASES:?} system namespace"
        ));
    }
    // A new one's name isn't known yet.
    if action.verb != "create" && action.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(Condition::None)
}

fn csi_node(node: &str, action: &Action<'_>) -> Result<Condition, Refusal> {
    if !matches!(action.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a CSINode".to_owned());
    }
    if action.verb != "create" && action.name != node {
        return Err("can only access CSINode with the same name as the requesting node".to_owned());
    }
    Ok(Condition::None)
}

fn node_object(node: &str, action: &Action<'_>) -> Result<Condition, Refusal> {
    match (action.subresource, action.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(Condition::None),
        // A node looks for its object before there is one.
        ("", "get" | "list" | "watch") => match action.name {
            name if name == node => Ok(Condition::None),
            "" => Err(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            name => Err(format!(
                "node '{node}' cannot read '{name}', only its own Node object"
            )),
        },
        _ => Err(String::new()),
    }
}

fn pod(node: &str, action: &Action<'_>) -> Result<Condition, Refusal> {
    match (action.subresource, action.verb) {
        ("", "get") => Ok(Condition::Related),
        ("", "list" | "watch") if action.selected_node == node => Ok(Condition::None),
        ("", "list" | "watch") if !action.name.is_empty() => Ok(Condition::Related),
        ("", "list" | "watch") => {
            Err("can only list/watch pods with spec.nodeName field selector".to_owned())
        }
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
            Ok(Condition::None)
        }
        _ => Err(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(verb: &str, resource: &str, name: &str) -> Result<Condition, Refusal> {
        let (group, resource) = resource.rsplit_once(' ').unwrap_or(("", resource));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let action = Action {
            verb,
            group,
            resource,
            subresource,
            name,
            namespace: LEASES,
            ..Action::default()
        };
        rule("n1", &action)
    }

    #[test]
    fn a_node_may_what_kubelets_do() {
        for (verb, resource, name) in [
            ("create", "nodes", ""),
            ("get", "nodes", "n1"),
            ("watch", "nodes", "n1"),
            ("patch", "nodes/status", "n1"),
            ("create", "coordination.k8s.io leases", ""),
            ("update", "coordination.k8s.io leases", "n1"),
            ("patch", "pods/status", "p"),
            ("delete", "pods", "p"),
            ("create", "pods/eviction", "p"),
            ("list", "services", ""),
            ("create", "events", ""),
            ("create", "authorization.k8s.io subjectaccessreviews", ""),
        ] {
            assert_eq!(
                ask(verb, resource, name),
                Ok(Condition::None),
                "{verb} {resource}"
            );
        }
        for (verb, resource) in [
            ("get", "secrets"),
            ("watch", "configmaps"),
            ("get", "pods"),
            ("create", "serviceaccounts/token"),
            ("get", "persistentvolumeclaims"),
        ] {
            assert_eq!(
                ask(verb, resource, "x"),
                Ok(Condition::Related),
                "{verb} {resource}"
            );
        }
    }

    #[test]
    fn a_node_may_nothing_else() {
        for (verb, resource, name) in [
            ("list", "nodes", ""),
            ("get", "nodes", "n2"),
            ("delete", "nodes", "n1"),
            ("get", "coordination.k8s.io leases", "n2"),
            ("list", "coordination.k8s.io leases", ""),
            ("list", "pods", ""),
            ("update", "pods", "p"),
            ("deletecollection", "pods", ""),
            ("create", "pods/binding", "p"),
            ("create", "pods/exec", "p"),
            ("create", "secrets", ""),
            ("update", "configmaps", "x"),
            ("create", "serviceaccounts", ""),
            ("list", "serviceaccounts", ""),
            ("list", "namespaces", ""),
            ("impersonate", "users", "x"),
            ("get", "rbac.authorization.k8s.io clusterroles", "x"),
        ] {
            assert!(ask(verb, resource, name).is_err(), "{verb} {resource} {name}");
        }
    }
}
