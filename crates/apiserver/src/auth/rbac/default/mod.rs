//! The roles and bindings that every Kubernetes cluster has, as tables.
//!
//! Lists are texts of words, and the core group is called `core`: one line a rule, as people speak of them.
//! They name resources that this server doesn't serve, too: manifests that refer to the roles, and clients that
//! compare them, find what they know.

mod components;
mod controllers;
mod people;

use serde_json::{Value, json};

use super::GROUP;

/// A default role, of a namespace or of the cluster.
pub(super) struct Role {
    name: &'static str,
    /// Empty for a ClusterRole.
    namespace: &'static str,
    /// Into which role its rules go: `admin`, `edit` or `view`.
    aggregate_to: &'static str,
    /// Whose rules it gathers: its own are found, not told.
    gathers: &'static str,
    rules: &'static [Rule],
}

pub(super) struct Rule {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

/// Who gets a role.
pub(super) struct Binding {
    name: &'static str,
    /// Empty for a ClusterRoleBinding.
    namespace: &'static str,
    role: &'static str,
    subjects: &'static [Subject],
}

pub(super) enum Subject {
    User(&'static str),
    Group(&'static str),
    /// Of the namespace `kube-system`.
    Account(&'static str),
}

const READ: &str = "get list watch";
const WRITE: &str = "create update patch delete deletecollection";
const READ_WRITE: &str = "get list watch create update patch delete deletecollection";
const READ_UPDATE: &str = "get list watch update patch";
const LIST_WATCH: &str = "list watch";

/// Everybody who does something tells of it.
const EVENTS: Rule = on("create update patch", "core events.k8s.io", "events");

const fn on(verbs: &'static str, groups: &'static str, resources: &'static str) -> Rule {
    named(verbs, groups, resources, "")
}

const fn named(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
) -> Rule {
    Rule {
        verbs,
        groups,
        resources,
        names,
        urls: "",
    }
}

const fn urls(urls: &'static str) -> Rule {
    Rule {
        verbs: "get",
        groups: "",
        resources: "",
        names: "",
        urls,
    }
}

const fn role(name: &'static str, rules: &'static [Rule]) -> Role {
    Role {
        name,
        namespace: "",
        aggregate_to: "",
        gathers: "",
        rules,
    }
}

const fn bind(name: &'static str, subjects: &'static [Subject]) -> Binding {
    Binding {
        name,
        namespace: "",
        role: name,
        subjects,
    }
}

const fn bind_in(
    namespace: &'static str,
    name: &'static str,
    role: &'static str,
    subjects: &'static [Subject],
) -> Binding {
    Binding {
        name,
        namespace,
        role,
        subjects,
    }
}

impl Role {
    const fn within(mut self, namespace: &'static str) -> Role {
        self.namespace = namespace;
        self
    }

    const fn part_of(mut self, role: &'static str) -> Role {
        self.aggregate_to = role;
        self
    }

    const fn gathering(mut self, role: &'static str) -> Role {
        self.gathers = role;
        self
    }
}

/// An object to be there, with the plural of its kind.
pub(super) struct Object {
    pub(super) plural: &'static str,
    pub(super) value: Value,
}

/// All of them.
pub(super) fn objects() -> Vec<Object> {
    let roles = [people::ROLES, components::ROLES, controllers::ROLES];
    let bindings = [people::BINDINGS, components::BINDINGS];
    let roles = roles.into_iter().flatten().map(role_object);
    let bindings = bindings.into_iter().flatten().map(binding_object);
    let own = controllers::ROLES.iter().map(controller_binding);
    roles.chain(bindings).chain(own).collect()
}

fn object(kind: &'static str, plural: &'static str, name: &str, namespace: &str) -> Object {
    let mut value = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
            "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        },
    });
    if !namespace.is_empty() {
        value["metadata"]["namespace"] = namespace.into();
    }
    Object { plural, value }
}

fn aggregation_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn role_object(role: &Role) -> Object {
    let (kind, plural) = match role.namespace {
        "" => ("ClusterRole", "clusterroles"),
        _ => ("Role", "roles"),
    };
    let mut object = object(kind, plural, role.name, role.namespace);
    let value = &mut object.value;
    if !role.aggregate_to.is_empty() {
        value["metadata"]["labels"][aggregation_label(role.aggregate_to)] = "true".into();
    }
    if !role.gathers.is_empty() {
        let labels = json!({ aggregation_label(role.gathers): "true" });
        value["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": labels }] });
    }
    value["rules"] = role.rules.iter().map(Rule::value).collect();
    object
}

impl Rule {
    fn value(&self) -> Value {
        let words = |text: &'static str| -> Value { text.split_whitespace().collect() };
        let mut rule = json!({ "verbs": words(self.verbs) });
        if !self.groups.is_empty() {
            let groups = self.groups.split_whitespace();
            rule["apiGroups"] = groups.map(|g| if g == "core" { "" } else { g }).collect();
        }
        for (field, text) in [
            ("resources", self.resources),
            ("resourceNames", self.names),
            ("nonResourceURLs", self.urls),
        ] {
            if !text.is_empty() {
                rule[field] = words(text);
            }
        }
        rule
    }
}

impl Subject {
    fn value(&self) -> Value {
        match self {
            Subject::User(name) => json!({ "apiGroup": GROUP, "kind": "User", "name": name }),
            Subject::Group(name) => json!({ "apiGroup": GROUP, "kind": "Group", "name": name }),
            Subject::Account(name) => {
                json!({ "kind": "ServiceAccount", "name": name, "namespace": "kube-system" })
            }
        }
    }
}

fn binding_object(binding: &Binding) -> Object {
    let (kind, plural, role) = match binding.namespace {
        "" => ("ClusterRoleBinding", "clusterrolebindings", "ClusterRole"),
        _ => ("RoleBinding", "rolebindings", "Role"),
    };
    let mut object = object(kind, plural, binding.name, binding.namespace);
    object.value["roleRef"] = json!({ "apiGroup": GROUP, "kind": role, "name": binding.role });
    if !binding.subjects.is_empty() {
        object.value["subjects"] = binding.subjects.iter().map(Subject::value).collect();
    }
    object
}

/// Each controller is a ServiceAccount that is called like its role.
fn controller_binding(role: &Role) -> Object {
    let account = role.name.trim_start_matches(controllers::PREFIX);
    let mut object = object("ClusterRoleBinding", "clusterrolebindings", role.name, "");
    object.value["roleRef"] = json!({ "apiGroup": GROUP, "kind": "ClusterRole", "name": role.name });
    let subject = json!({ "kind": "ServiceAccount", "name": account, "namespace": "kube-system" });
    object.value["subjects"] = json!([subject]);
    object
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::object::{list, text};

    #[test]
    fn every_default_is_valid_and_there_once() {
        let mut seen = HashSet::new();
        for object in objects() {
            let kind = kinds::find(GROUP, "v1", object.plural).unwrap();
            let name = text(&object.value, "/metadata/name");
            let namespace = text(&object.value, "/metadata/namespace");
            assert!(
                seen.insert((object.plural, namespace.to_owned(), name.to_owned())),
                "{name}"
            );
            let decoded = kind.decode(&object.value).unwrap();
            assert_eq!(decoded.unknown, [""; 0], "{name}");
            let mut value = decoded.object;
            kind.default(&mut value);
            assert_eq!(kind.validate(&value, None), [], "{name}");
        }
    }

    #[test]
    fn every_default_binding_refers_to_a_default_role() {
        let objects = objects();
        let names: HashSet<_> = objects
            .iter()
            .map(|object| {
                (
                    text(&object.value, "/kind"),
                    text(&object.value, "/metadata/name"),
                )
            })
            .collect();
        for object in &objects {
            let reference = &object.value["roleRef"];
            if !reference.is_null() {
                assert!(
                    names.contains(&(text(reference, "/kind"), text(reference, "/name"))),
                    "{reference}"
                );
            }
        }
    }

    #[test]
    fn nobody_but_administrators_may_do_everything() {
        for object in objects() {
            let all = |rule: &Value| rule["verbs"] == json!(["*"]) && rule["resources"] == json!(["*"]);
            let any = list(&object.value, "/rules").iter().any(all);
            let name = text(&object.value, "/metadata/name");
            let is_admin = (object.plural, name) == ("clusterroles", "cluster-admin");
            assert_eq!(any, is_admin, "{name}");
        }
    }
}
