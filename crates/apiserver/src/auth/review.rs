//! Reviews: questions about access and identity. They are created and answered, never stored.

use std::sync::Arc;

use http::{Method, StatusCode};
use kinds::{FieldError, Reason};
use serde_json::{Value, json};

use super::authorize::{self, Action, Decision};
use super::identity::Identity;
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
        group: "authentication.k8s.io",
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
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
    let encoding = negotiate::encoding_of_whole(request.headers())?;
    let api_version = format!("{}/v1", review.group);
    let question = resource::read(request, (&api_version, review.kind)).await?;
    let spec = question.get("spec").cloned().unwrap_or_else(|| json!({}));
    let status = match review.kind {
        "SelfSubjectReview" => json!({ "userInfo": identity.user_info() }),
        "TokenReview" => token(server, &spec)?,
        "SelfSubjectRulesReview" => rules(server, identity, text(&spec, "/namespace"))?,
        "SelfSubjectAccessReview" => access(server, identity, &spec)?,
        _ => {
            check_subject(review, path.namespace.as_deref(), &spec)?;
            access(server, &subject(&spec), &spec)?
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

fn invalid(kind: &str, group: &str, field: &str, reason: Reason, message: impl Into<String>) -> Failure {
    let error = FieldError {
        reason,
        field: field.to_owned(),
        message: message.into(),
    };
    Failure::invalid(kind, group, "", &[error])
}

/// A question about others names them; one in a namespace is about that namespace.
fn check_subject(review: &Review, namespace: Option<&str>, spec: &Value) -> Result<(), Failure> {
    if text(spec, "/user").is_empty() && list(spec, "/groups").is_empty() {
        let why = "Invalid value: null: at least one of user or group must be specified";
        return Err(invalid(
            review.kind,
            review.group,
            "spec.user",
            Reason::Invalid,
            why,
        ));
    }
    let Some(namespace) = namespace else {
        return Ok(());
    };
    let asked = text(spec, "/resourceAttributes/namespace");
    if asked != namespace {
        return Err(Failure::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {asked:?} is not {namespace:?}"
        )));
    }
    Ok(())
}

/// Whom a question is about: exactly what it says, without groups that the user would have.
fn subject(spec: &Value) -> Identity {
    let texts = |value: &Value| -> Vec<String> {
        let values = value.as_array().into_iter().flatten();
        values
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let extra = spec.get("extra").and_then(Value::as_object);
    let extra = extra
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.clone(), texts(values)));
    Identity {
        user: text(spec, "/user").to_owned(),
        uid: text(spec, "/uid").to_owned(),
        groups: texts(&spec["groups"]),
        extra: extra.collect(),
    }
}

/// Whom a token speaks for.
fn token(server: &ApiServer, spec: &Value) -> Result<Value, Failure> {
    let token = text(spec, "/token");
    if token.is_empty() {
        let why = "Required value: token is required";
        return Err(invalid(
            "TokenReview",
            "authentication.k8s.io",
            "spec.token",
            Reason::Required,
            why,
        ));
    }
    let Some(tokens) = &server.tokens else {
        return Ok(json!({ "user": {}, "error": "the server has no key for service account tokens" }));
    };
    let wanted: Vec<_> = list(spec, "/audiences")
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    Ok(match tokens.authenticate(server, token, &wanted) {
        Ok(authenticated) => json!({
            "authenticated": true,
            "user": authenticated.identity.user_info(),
            "audiences": authenticated.audiences,
        }),
        Err(why) => json!({ "user": {}, "error": why }),
    })
}

fn access(server: &ApiServer, identity: &Identity, spec: &Value) -> Result<Value, Failure> {
    let attributes = |field: &str| spec.get(field).filter(|attributes| attributes.is_object());
    let action = match (
        attributes("resourceAttributes"),
        attributes("nonResourceAttributes"),
    ) {
        (Some(attributes), None) => Action {
            verb: text(attributes, "/verb"),
            group: text(attributes, "/group"),
            resource: text(attributes, "/resource"),
            subresource: text(attributes, "/subresource"),
            namespace: text(attributes, "/namespace"),
            name: text(attributes, "/name"),
            selected_node: selected_node(attributes),
            path: "",
        },
        (None, Some(attributes)) => Action {
            verb: text(attributes, "/verb"),
            path: text(attributes, "/path"),
            ..Action::default()
        },
        _ => {
            return Err(Failure::bad_request(
                "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    let decision = authorize::decide(server, identity, &action)?;
    let mut status = json!({ "allowed": decision.is_allowed() });
    let reason = decision.reason();
    if !reason.is_empty() {
        status["reason"] = reason.as_str().into();
    }
    // A role that is bound and isn't there is also an error of the evaluation.
    if matches!(decision, Decision::Refused(_)) && reason.starts_with("RBAC: ") {
        status["evaluationError"] = reason.trim_start_matches("RBAC: ").into();
    }
    Ok(status)
}

/// The node that a list of pods would be narrowed to.
fn selected_node(attributes: &Value) -> &str {
    let node = list(attributes, "/fieldSelector/requirements")
        .iter()
        .find(|requirement| {
            text(requirement, "/key") == "spec.nodeName"
                && text(requirement, "/operator") == "In"
                && list(requirement, "/values").len() == 1
        });
    node.map_or("", |requirement| text(requirement, "/values/0"))
}

/// What the user may do in a namespace, as far as it can be listed.
fn rules(server: &ApiServer, identity: &Identity, namespace: &str) -> Result<Value, Failure> {
    if namespace.is_empty() {
        return Err(Failure::bad_request("no namespace on request"));
    }
    let (rules, missing) = server.rbac.rules_of(&server.store, identity, namespace)?;
    let rules: Vec<_> = rules
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()
        .map_err(Failure::internal)?;
    let with = |field: &str| -> Vec<Value> {
        rules
            .iter()
            .filter(|rule| rule.get(field).is_some())
            .cloned()
            .collect()
    };
    let resource_rules: Vec<_> = with("resources");
    let mut other_rules: Vec<_> = with("nonResourceURLs");
    for rule in &mut other_rules {
        if let Some(rule) = rule.as_object_mut() {
            rule.retain(|field, _| matches!(field.as_str(), "verbs" | "nonResourceURLs"));
        }
    }
    let mut errors = missing;
    if identity.node().is_some() {
        // A node's rights depend on the pods it runs.
        errors.push("node authorizer does not support user rule resolution".to_owned());
    }
    let mut status = json!({
        "resourceRules": resource_rules,
        "nonResourceRules": other_rules,
        "incomplete": !errors.is_empty(),
    });
    if !errors.is_empty() {
        status["evaluationError"] = errors.join(", ").into();
    }
    Ok(status)
}
