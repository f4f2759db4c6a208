//! RoleBinding and ClusterRoleBinding.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use serde_json::{Value, json};

use super::GROUP;
use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::columns::{self, column, wide};
use crate::entry::Entry;
use crate::json::{list, list_mut, set_default, set_default_text, text};
use crate::kind::Column;

pub(crate) const KIND: Entry = Entry {
    name: names::path_segment,
    default,
    rules: |errors, binding, old| rules(errors, binding, old, true),
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<RoleBinding>("rolebinding")
};

pub(crate) const CLUSTER_KIND: Entry = Entry {
    name: names::path_segment,
    default,
    rules: |errors, binding, old| rules(errors, binding, old, false),
    columns: COLUMNS,
    row,
    ..Entry::cluster::<ClusterRoleBinding>("clusterrolebinding")
};

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Role", "string", "The role that is given."),
    columns::AGE,
    wide("Users", "string", "The users who get it."),
    wide("Groups", "string", "The groups that get it."),
    wide("ServiceAccounts", "string", "The service accounts that get it."),
];

fn row(binding: &Value, now: i64) -> Vec<Value> {
    let role = format!(
        "{}/{}",
        text(binding, "/roleRef/kind"),
        text(binding, "/roleRef/name")
    );
    let subjects = |kind: &str| {
        let of_kind = list(binding, "/subjects")
            .iter()
            .filter(|subject| text(subject, "/kind") == kind);
        let names = of_kind.map(|subject| match text(subject, "/namespace") {
            namespace if kind == "ServiceAccount" => format!("{namespace}/{}", text(subject, "/name")),
            _ => text(subject, "/name").to_owned(),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        columns::name(binding),
        role.into(),
        columns::age(binding, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn default(binding: &mut Value) {
    set_default(binding, "roleRef", json!({}));
    set_default_text(&mut binding["roleRef"], "apiGroup", GROUP);
    for subject in list_mut(binding, "/subjects") {
        if matches!(text(subject, "/kind"), "User" | "Group") {
            set_default_text(subject, "apiGroup", GROUP);
        }
    }
}

fn rules(errors: &mut Errors, binding: &Value, old: Option<&Value>, namespaced: bool) {
    let path = Field::root().child("roleRef");
    let reference = &binding["roleRef"];
    errors.one_of(&path.child("apiGroup"), text(reference, "/apiGroup"), &[GROUP]);
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    errors.one_of(&path.child("kind"), text(reference, "/kind"), kinds);
    match text(reference, "/name") {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_all(&path.child("name"), name, names::path_segment(name)),
    }
    let subjects = Field::root().child("subjects");
    for (index, it) in list(binding, "/subjects").iter().enumerate() {
        subject(errors, it, namespaced, &subjects.index(index));
    }
    if old.is_some_and(|old| old["roleRef"] != *reference) {
        errors.invalid(&path, reference.clone(), "cannot change roleRef");
    }
}

fn subject(errors: &mut Errors, subject: &Value, namespaced: bool, path: &Field) {
    let name = text(subject, "/name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let group = text(subject, "/apiGroup");
    match text(subject, "/kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.invalid_all(&path.child("name"), name, names::subdomain(name));
            }
            errors.one_of(&path.child("apiGroup"), group, &[""]);
            if !namespaced && text(subject, "/namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => errors.one_of(&path.child("apiGroup"), group, &[GROUP]),
        kind => errors.not_supported(&path.child("kind"), kind, &["ServiceAccount", "User", "Group"]),
    }
}
