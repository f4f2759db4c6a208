//! Role and ClusterRole.

use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{names, selector};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, list, text};
use crate::kind::Column;

pub(crate) const KIND: Entry = Entry {
    name: names::path_segment,
    rules: |errors, role, _| policy_rules(errors, role, true),
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<Role>("role")
};

pub(crate) const CLUSTER_KIND: Entry = Entry {
    name: names::path_segment,
    rules: |errors, role, _| {
        policy_rules(errors, role, false);
        aggregation(errors, role);
    },
    columns: COLUMNS,
    row,
    ..Entry::cluster::<ClusterRole>("clusterrole")
};

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Created At", "date", "When the object was created."),
];

fn row(role: &Value, _now: i64) -> Vec<Value> {
    let created = text(role, "/metadata/creationTimestamp");
    vec![columns::name(role), created.into()]
}

fn policy_rules(errors: &mut Errors, role: &Value, namespaced: bool) {
    let path = Field::root().child("rules");
    for (index, rule) in list(role, "/rules").iter().enumerate() {
        policy_rule(errors, rule, namespaced, &path.index(index));
    }
}

fn policy_rule(errors: &mut Errors, rule: &Value, namespaced: bool, path: &Field) {
    let is_empty = |field: &str| list(rule, &format!("/{field}")).is_empty();
    if is_empty("verbs") {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !is_empty("nonResourceURLs") {
        let path = path.child("nonResourceURLs");
        let urls = rule["nonResourceURLs"].clone();
        if namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.invalid(&path, urls, detail);
        } else if !(is_empty("apiGroups") && is_empty("resources") && is_empty("resourceNames")) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&path, urls, detail);
        }
        return;
    }
    if is_empty("apiGroups") {
        let detail = "resource rules must supply at least one api group";
        errors.required(&path.child("apiGroups"), detail);
    }
    if is_empty("resources") {
        let detail = "resource rules must supply at least one resource";
        errors.required(&path.child("resources"), detail);
    }
}

fn aggregation(errors: &mut Errors, role: &Value) {
    if at(role, "/aggregationRule").is_none() {
        return;
    }
    let path = Field::root()
        .child("aggregationRule")
        .child("clusterRoleSelectors");
    let selectors = list(role, "/aggregationRule/clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&path, detail);
    }
    for (index, it) in selectors.iter().enumerate() {
        selector::selector(errors, it, &path.index(index));
    }
}
