//! Kubernetes' own API groups: definitions in them say who approved of it.

use serde_json::Value;

use crate::check::errors::{Errors, Field};

const ANNOTATION: &str = "api-approved.kubernetes.io";

/// What the annotation says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Approval<'a> {
    Missing,
    /// A link to who approved of it.
    Approved(&'a str),
    /// Somebody takes it upon themselves.
    Bypassed(&'a str),
    Invalid(&'a str),
}

/// Whether a group is the community's.
pub(crate) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")))
}

/// What a definition says of its approval.
pub(crate) fn of(definition: &Value) -> Approval<'_> {
    let annotation = definition["metadata"]["annotations"][ANNOTATION].as_str();
    match annotation.unwrap_or_default() {
        "" => Approval::Missing,
        text if text.starts_with("unapproved") => Approval::Bypassed(text),
        text if text
            .split_once("://")
            .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()) =>
        {
            Approval::Approved(text)
        }
        text => Approval::Invalid(text),
    }
}

pub(crate) fn rules(errors: &mut Errors, definition: &Value, old: Option<&Value>) {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let approval = of(definition);
    if !is_protected(group) || old.is_some_and(|old| of(old) == approval) {
        return;
    }
    let path = Field::root()
        .child("metadata")
        .child("annotations")
        .key(ANNOTATION);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match approval {
        Approval::Missing => {
            let detail = format!("protected groups must have approval annotation {ANNOTATION:?}, {see}");
            errors.required(&path, &detail);
        }
        Approval::Invalid(text) => {
            let detail = format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {see}"
            );
            errors.invalid(&path, text, &detail);
        }
        Approval::Approved(_) | Approval::Bypassed(_) => {}
    }
}
