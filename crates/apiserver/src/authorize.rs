//! Who may do what.
//!
//! Simple until RBAC comes: administrators and the server's own controllers may do everything, a node what a
//! node needs, and anybody else with a certificate may look at what is served and who they are.

use kinds::Kind;
use serde_json::Value;

use crate::identity::Identity;
use crate::object::{self, list, text};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};

/// The namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Action<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// A path that isn't a resource's; the rest is empty then.
    pub(crate) path: &'a str,
}

/// Users of this process who may do everything, like those in `system:masters`.
const CONTROLLERS: [&str; 2] = ["system:kube-controller-manager", "system:kube-scheduler"];

/// What every node may read. ConfigMaps and Secrets are not here: see [`referenced`].
const NODE_READS: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "pods"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("discovery.k8s.io", "endpointslices"),
    ("gateway.networking.k8s.io", "*"),
    ("networking.k8s.io", "*"),
    ("policy.networking.k8s.io", "*"),
    ("node.k8s.io", "*"),
];

/// Refuses what the identity may not do.
pub(crate) fn check(server: &ApiServer, identity: &Identity, action: &Action<'_>) -> Result<(), Failure> {
    if allowed(server, identity, action)? {
        Ok(())
    } else {
        Err(refusal(identity, action))
    }
}

/// Whether the identity may do it.
pub(crate) fn allowed(server: &ApiServer, identity: &Identity, action: &Action<'_>) -> Result<bool, Failure> {
    if identity.is_in("system:masters") || CONTROLLERS.contains(&identity.user.as_str()) {
        return Ok(true);
    }
    if action.resource.is_empty() {
        return Ok(action.verb == "get" && is_discovery(action.path));
    }
    if reviews_oneself(action) {
        return Ok(true);
    }
    match identity.node() {
        Some(node) => node_may(server, node, action),
        None => Ok(false),
    }
}

fn is_discovery(path: &str) -> bool {
    let below =
        |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    [
        "/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz",
    ]
    .into_iter()
    .any(below)
}

fn reviews_oneself(action: &Action<'_>) -> bool {
    action.verb == "create"
        && matches!(
            (action.group, action.resource),
            ("authentication.k8s.io", "selfsubjectreviews")
                | (
                    "authorization.k8s.io",
                    "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
                )
        )
}

/// A node reads what its agent needs, and writes about itself and its own pods only.
fn node_may(server: &ApiServer, node: &str, action: &Action<'_>) -> Result<bool, Failure> {
    let reads = matches!(action.verb, "get" | "list" | "watch");
    let read_by_all = NODE_READS.iter().any(|(group, resource)| {
        *group == action.group && (*resource == action.resource || *resource == "*")
    });
    if reads && read_by_all && action.subresource.is_empty() {
        return Ok(true);
    }
    let writes = matches!(action.verb, "update" | "patch");
    // A new object's name isn't known yet: `created_name` looks at it.
    let own = action.name == node || action.name.is_empty() && action.verb == "create";
    Ok(match (action.group, action.resource, action.subresource) {
        ("", "configmaps" | "secrets", "") if reads => referenced(server, node, action)?,
        ("", "nodes", "") => own && (writes || action.verb == "create"),
        ("", "nodes", "status") => own && (reads || writes),
        ("coordination.k8s.io", "leases", "") => {
            let kind_of_use = matches!(action.verb, "get" | "create" | "delete") || writes;
            own && kind_of_use && action.namespace == LEASES
        }
        ("" | "events.k8s.io", "events", "") => action.verb == "create" || action.verb == "patch",
        ("", "pods", "status") => (reads || writes) && runs_on(server, node, action)?,
        ("", "pods", "") => action.verb == "delete" && runs_on(server, node, action)?,
        ("", "pods", "eviction") => action.verb == "create" && runs_on(server, node, action)?,
        _ => false,
    })
}

/// Whether the named pod is bound to the node.
fn runs_on(server: &ApiServer, node: &str, action: &Action<'_>) -> Result<bool, Failure> {
    let key = object::key(server.pods(), Some(action.namespace), action.name);
    let Some(entry) = server.store.get(&key)? else {
        // The answer is "not found" then, whoever asks: nodes may read pods.
        return Ok(!action.name.is_empty());
    };
    Ok(text(&object::parse(&entry.value)?, "/spec/nodeName") == node)
}

/// Whether a pod of the node uses the named ConfigMap or Secret.
fn referenced(server: &ApiServer, node: &str, action: &Action<'_>) -> Result<bool, Failure> {
    if action.name.is_empty() || action.namespace.is_empty() {
        return Ok(false);
    }
    let prefix = object::prefix(server.pods(), Some(action.namespace));
    let range = store::Range {
        prefix: &prefix,
        limit: 1,
        ..store::Range::default()
    };
    let page = server.store.list(&range, |pod| {
        // Most pods don't even contain the name: only the others are read.
        contains(pod, action.name.as_bytes())
            && serde_json::from_slice::<Value>(pod).is_ok_and(|pod| {
                text(&pod, "/spec/nodeName") == node && uses(&pod["spec"], action.resource, action.name)
            })
    })?;
    Ok(!page.entries.is_empty())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether a pod's specification names the ConfigMap or Secret, in a volume or for a container's environment.
fn uses(spec: &Value, resource: &str, name: &str) -> bool {
    let (volume, key_ref, from_ref) = match resource {
        "configmaps" => (
            "configMap",
            "/valueFrom/configMapKeyRef/name",
            "/configMapRef/name",
        ),
        _ => ("secret", "/valueFrom/secretKeyRef/name", "/secretRef/name"),
    };
    // Volumes spell a Secret's name in their own way.
    let source_names = |source: &Value| {
        let source = &source[volume];
        text(source, "/name") == name || text(source, "/secretName") == name
    };
    let volumes = list(spec, "/volumes")
        .iter()
        .any(|volume| source_names(volume) || list(volume, "/projected/sources").iter().any(source_names));
    let containers = ["/initContainers", "/containers", "/ephemeralContainers"]
        .into_iter()
        .flat_map(|field| list(spec, field));
    let environment = |container: &Value| {
        let variables = list(container, "/env").iter();
        let sources = list(container, "/envFrom").iter();
        variables.map(|v| text(v, key_ref)).any(|found| found == name)
            || sources.map(|s| text(s, from_ref)).any(|found| found == name)
    };
    let pull = list(spec, "/imagePullSecrets")
        .iter()
        .any(|secret| resource == "secrets" && text(secret, "/name") == name);
    volumes || pull || containers.into_iter().any(environment)
}

/// A node creates its own Node and its own Lease, no others.
pub(crate) fn created_name(identity: &Identity, kind: &'static Kind, name: &str) -> Result<(), Failure> {
    let named = matches!(
        (kind.group, kind.plural),
        ("", "nodes") | ("coordination.k8s.io", "leases")
    );
    match identity.node() {
        Some(node) if named && node != name && !identity.is_in("system:masters") => {
            let why = format!("node {node:?} is not allowed to create it: it is not its own");
            Err(Failure::forbidden(Subject::of(kind, name), &why))
        }
        _ => Ok(()),
    }
}

/// Kubernetes' words for it.
fn refusal(identity: &Identity, action: &Action<'_>) -> Failure {
    let user = &identity.user;
    if action.resource.is_empty() {
        return Failure::new(
            http::StatusCode::FORBIDDEN,
            "Forbidden",
            format!(
                "forbidden: User {user:?} cannot {} path {:?}",
                action.verb, action.path
            ),
        );
    }
    let resource = match action.subresource {
        "" => action.resource.to_owned(),
        subresource => format!("{}/{subresource}", action.resource),
    };
    let place = match action.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!(
        "User {user:?} cannot {} resource {resource:?} in API group {:?} {place}",
        action.verb, action.group
    );
    let subject = Subject {
        group: action.group,
        resource: action.resource,
        name: action.name,
    };
    Failure::forbidden(subject, &why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_reads_as_kubernetes_words_it() {
        let identity = Identity::new("jane", ["dev"]);
        let action = Action {
            verb: "list",
            resource: "pods",
            namespace: "default",
            ..Action::default()
        };
        assert_eq!(
            refusal(&identity, &action).message,
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        );
        let action = Action {
            verb: "update",
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            name: "web",
            ..Action::default()
        };
        assert_eq!(
            refusal(&identity, &action).message,
            "deployments.apps \"web\" is forbidden: User \"jane\" cannot update resource \"deployments/scale\" in API group \"apps\" at the cluster scope"
        );
    }

    #[test]
    fn a_pod_uses_what_its_volumes_and_environment_name() {
        let spec = json!({
            "volumes": [
                { "name": "a", "secret": { "secretName": "s1" } },
                { "name": "b", "configMap": { "name": "c1" } },
                { "name": "c", "projected": { "sources": [{ "secret": { "name": "s2" } }, { "configMap": { "name": "c2" } }] } },
            ],
            "imagePullSecrets": [{ "name": "s5" }],
            "initContainers": [{ "envFrom": [{ "secretRef": { "name": "s3" } }, { "configMapRef": { "name": "c3" } }] }],
            "containers": [{ "env": [
                { "name": "x", "valueFrom": { "secretKeyRef": { "name": "s4", "key": "k" } } },
                { "name": "y", "valueFrom": { "configMapKeyRef": { "name": "c4", "key": "k" } } },
            ] }],
        });
        for name in ["s1", "s2", "s3", "s4", "s5"] {
            assert!(uses(&spec, "secrets", name), "{name}");
            assert!(!uses(&spec, "configmaps", name), "{name}");
        }
        for name in ["c1", "c2", "c3", "c4"] {
            assert!(uses(&spec, "configmaps", name), "{name}");
            assert!(!uses(&spec, "secrets", name), "{name}");
        }
    }
}
