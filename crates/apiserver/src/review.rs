//! Reviews: questions about access and identity. They are created and answered, never stored.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::authorize::{self, Action};
use crate::identity::Identity;
use crate::negotiate;
use crate::object::{self, list, text};
use crate::path::ResourcePath;
use crate::reply::{self, Request, Response};
use crate::resource;
use crate::server::ApiServer;
use crate::status::Failure;

/// A kind that can only be created.
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) namespaced: bool,
}

/// All of version `v1`.
pub(crate) const REVIEWS: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        namespaced: false,
    },
    Review {
        group: "authorization.k8s.io",
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        namespaced: true,
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        namespaced: false,
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        namespaced: false,
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        namespaced: false,
    },
];

pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    identity: &Identity,
    path: &ResourcePath,
    request: Request,
) -> Result<Response, Failure> {
    let review = REVIEWS.iter().find(|review| {
        review.group == path.group
            && path.version == "v1"
            && review.plural == path.resource
            && review.namespaced == path.namespace.is_some()
    });
    let review = review
        .filter(|_| path.name.is_none() && path.subresource.is_none())
        .ok_or_else(Failure::no_such_path)?;
    if request.method() != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    let encoding = negotiate::encoding(request.headers());
    let api_version = format!("{}/v1", review.group);
    let question = resource::read(request, (&api_version, review.kind)).await?;
    let spec = question.get("spec").cloned().unwrap_or_else(|| json!({}));
    let status = match review.kind {
        "SelfSubjectReview" => {
            json!({ "userInfo": { "username": identity.user, "groups": identity.all_groups() } })
        }
        "SelfSubjectRulesReview" => rules(identity),
        "SelfSubjectAccessReview" => access(server, identity, &spec)?,
        _ => {
            let groups = list(&spec, "/groups").iter().filter_map(Value::as_str);
            access(server, &Identity::new(text(&spec, "/user"), groups), &spec)?
        }
    };
    let mut answer = json!({
        "kind": review.kind,
        "apiVersion": api_version,
        "metadata": { "creationTimestamp": object::now() },
        "status": status,
    });
    if review.kind != "SelfSubjectReview" {
        answer["spec"] = spec;
    }
    reply::object(StatusCode::CREATED, encoding, &answer)
}

fn access(server: &ApiServer, identity: &Identity, spec: &Value) -> Result<Value, Failure> {
    let action = if let Some(attributes) = spec.get("resourceAttributes").filter(|a| a.is_object()) {
        Action {
            verb: text(attributes, "/verb"),
            group: text(attributes, "/group"),
            resource: text(attributes, "/resource"),
            subresource: text(attributes, "/subresource"),
            namespace: text(attributes, "/namespace"),
            name: text(attributes, "/name"),
            path: "",
        }
    } else if let Some(attributes) = spec.get("nonResourceAttributes").filter(|a| a.is_object()) {
        Action {
            verb: text(attributes, "/verb"),
            path: text(attributes, "/path"),
            ..Action::default()
        }
    } else {
        return Err(Failure::bad_request(
            "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    };
    Ok(json!({ "allowed": authorize::allowed(server, identity, &action)? }))
}

/// What the user may do, as far as it can be listed.
fn rules(identity: &Identity) -> Value {
    if identity.is_in("system:masters") {
        return json!({
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            "incomplete": false,
        });
    }
    json!({
        "resourceRules": [{
            "verbs": ["create"],
            "apiGroups": ["authentication.k8s.io", "authorization.k8s.io"],
            "resources": ["selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        }],
        "nonResourceRules": [{
            "verbs": ["get"],
            "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version"],
        }],
        // A node's rights depend on the pods it runs.
        "incomplete": identity.node().is_some(),
    })
}
