//! Who may do what: the authorizers, asked one after the other.
//!
//! ```text
//! system:masters ─► health for everybody ─► node authorizer ─► RBAC ─► refused, with every reason
//! ```

use std::sync::Arc;

use super::identity::Identity;
use super::rbac::{Grant, Verdict};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};

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
    /// The node that a list of pods is narrowed to, by `spec.nodeName`.
    pub(crate) selected_node: &'a str,
}

/// An answer, and why.
pub(crate) enum Decision {
    /// By a binding, or by what the user is.
    Allowed(Option<Arc<Grant>>),
    Refused(String),
}

impl Decision {
    pub(crate) fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// As reviews tell it.
    pub(crate) fn reason(&self) -> String {
        match self {
            Decision::Allowed(Some(grant)) => format!("RBAC: allowed by {}", grant.describe()),
            Decision::Allowed(None) => String::new(),
            Decision::Refused(why) => why.clone(),
        }
    }
}

/// Refuses what the identity may not do.
pub(crate) fn check(server: &ApiServer, identity: &Identity, action: &Action<'_>) -> Result<(), Failure> {
    match decide(server, identity, action)? {
        Decision::Allowed(_) => Ok(()),
        Decision::Refused(why) => Err(refusal(identity, action, &why)),
    }
}

/// Whether the identity may do it.
pub(crate) fn decide(
    server: &ApiServer,
    identity: &Identity,
    action: &Action<'_>,
) -> Result<Decision, Failure> {
    let is_health = action.resource.is_empty() && matches!(action.path, "/healthz" | "/livez" | "/readyz");
    if identity.is_master() || is_health {
        return Ok(Decision::Allowed(None));
    }
    let mut reasons = Vec::new();
    if let Some(node) = identity.node() {
        match server.nodes.authorize(&server.store, node, action)? {
            Ok(()) => return Ok(Decision::Allowed(None)),
            Err(why) => reasons.push(why),
        }
    }
    match server.rbac.authorize(&server.store, identity, action)? {
        Verdict::Allowed(grant) => return Ok(Decision::Allowed(Some(grant))),
        Verdict::Denied(missing) => match &missing[..] {
            [] => {}
            [one] => reasons.push(format!("RBAC: {one}")),
            more => reasons.push(format!("RBAC: [{}]", more.join(", "))),
        },
    }
    reasons.retain(|reason| !reason.is_empty());
    Ok(Decision::Refused(reasons.join("\n")))
}

/// Kubernetes' words for it.
pub(crate) fn refusal(identity: &Identity, action: &Action<'_>, reason: &str) -> Failure {
    let user = &identity.user;
    let with_reason = |text: String| match reason {
        "" => text,
        reason => format!("{text}: {reason}"),
    };
    if action.resource.is_empty() {
        return Failure::new(
            http::StatusCode::FORBIDDEN,
            "Forbidden",
            with_reason(format!(
                "forbidden: User {user:?} cannot {} path {:?}",
                action.verb, action.path
            )),
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
    let why = with_reason(format!(
        "User {user:?} cannot {} resource {resource:?} in API group {:?} {place}",
        action.verb, action.group
    ));
    let subject = Subject {
        group: action.group,
        resource: action.resource,
        name: action.name,
    };
    Failure::forbidden(subject, &why)
}

#[cfg(test)]
mod tests {
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
            refusal(&identity, &action, "").message,
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
            refusal(&identity, &action, "why").message,
            "deployments.apps \"web\" is forbidden: User \"jane\" cannot update resource \"deployments/scale\" in API group \"apps\" at the cluster scope: why"
        );
        let action = Action {
            verb: "get",
            path: "/metrics",
            ..Action::default()
        };
        assert_eq!(
            refusal(&identity, &action, "").message,
            "forbidden: User \"jane\" cannot get path \"/metrics\""
        );
    }
}
