//! Nobody gives rights that they don't have.
//!
//! Who writes a role must have all of its rights already, or the verb `escalate` on it; who writes a binding
//! the rights of the role it refers to, or the verb `bind` on that.

use kinds::Kind;
use serde_json::Value;

use super::rule::{self, Rule};
use super::{GROUP, Rbac};
use crate::auth::authorize::{self, Action};
use crate::auth::identity::Identity;
use crate::object::{self, list, text};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};

/// Checks a role or binding that is about to be written; anything else passes.
pub(crate) fn check(
    server: &ApiServer,
    identity: &Identity,
    kind: &Kind,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Failure> {
    if kind.group() != GROUP || identity.is_master() || old.is_some_and(|old| same_rights(old, new)) {
        return Ok(());
    }
    let name = text(new, "/metadata/name");
    let namespace = text(new, "/metadata/namespace");
    let subject = Subject::of(kind, name);
    match kind.plural() {
        "roles" | "clusterroles" => {
            if may(server, identity, "escalate", kind.plural(), namespace, name)? {
                return Ok(());
            }
            let aggregates = |role: &Value| !list(role, "/aggregationRule/clusterRoleSelectors").is_empty();
            if aggregates(new) || old.is_some_and(aggregates) {
                full_authority(server, identity, subject)?;
            }
            has_rights(server, identity, subject, namespace, &rules(new)?)
        }
        "rolebindings" | "clusterrolebindings" => {
            let resource = match text(new, "/roleRef/kind") {
                "Role" => "roles",
                _ => "clusterroles",
            };
            let role = text(new, "/roleRef/name");
            if may(server, identity, "bind", resource, namespace, role)? {
                return Ok(());
            }
            let rules = referenced(server, resource, namespace, role)?;
            has_rights(server, identity, subject, namespace, &rules)
        }
        _ => Ok(()),
    }
}

/// Whether only who owns the object, or what must happen before it goes, has changed.
fn same_rights(old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        let metadata = object::metadata(&mut object);
        for field in [
            "ownerReferences",
            "finalizers",
            "managedFields",
            "resourceVersion",
        ] {
            metadata.remove(field);
        }
        object
    };
    rest(old) == rest(new)
}

fn may(
    server: &ApiServer,
    identity: &Identity,
    verb: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<bool, Failure> {
    let action = Action {
        verb,
        group: GROUP,
        resource,
        namespace,
        name,
        ..Action::default()
    };
    Ok(authorize::decide(server, identity, &action)?.is_allowed())
}

fn rules(role: &Value) -> Result<Vec<Rule>, Failure> {
    let rules = role.get("rules").filter(|rules| !rules.is_null()).cloned();
    let rules = rules.map(serde_json::from_value).transpose();
    Ok(rules.map_err(Failure::internal)?.unwrap_or_default())
}

/// The rules of the role that a binding refers to. One that isn't there can't be judged.
fn referenced(
    server: &ApiServer,
    resource: &'static str,
    namespace: &str,
    name: &str,
) -> Result<Vec<Rule>, Failure> {
    let kind = kinds::find(GROUP, "v1", resource).expect("the table has roles");
    let place = kind.namespaced().then_some(namespace);
    let entry = server.store.get(&object::key(kind, place, name))?;
    let entry = entry.ok_or_else(|| Failure::not_found(Subject::of(kind, name)))?;
    rules(&object::parse(&entry.value)?)
}

fn has_rights(
    server: &ApiServer,
    identity: &Identity,
    subject: Subject<'_>,
    namespace: &str,
    wanted: &[Rule],
) -> Result<(), Failure> {
    let (owned, unresolved) = server.rbac.rules_of(&server.store, identity, namespace)?;
    let missing = rule::compact(rule::uncovered(&owned, wanted));
    if missing.is_empty() {
        return Ok(());
    }
    let mut missing: Vec<_> = missing.iter().map(Rule::describe).collect();
    missing.sort();
    missing.dedup();
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        identity.user,
        rule::quoted(identity.groups.iter().map(String::as_str)),
        missing.join("\n")
    );
    if !unresolved.is_empty() {
        why += &format!("; resolution errors: [{}]", unresolved.join(", "));
    }
    Err(Failure::forbidden(subject, &why))
}

/// What an aggregated role gathers can't be known: who writes one must have everything.
fn full_authority(server: &ApiServer, identity: &Identity, subject: Subject<'_>) -> Result<(), Failure> {
    let (owned, _) = server.rbac.rules_of(&server.store, identity, "")?;
    if rule::uncovered(&owned, &Rbac::everything()).is_empty() {
        return Ok(());
    }
    let why = "must have cluster-admin privileges to use the aggregationRule";
    Err(Failure::forbidden(subject, why))
}

impl Rbac {
    fn everything() -> [Rule; 2] {
        let star = || std::iter::once("*").collect();
        [
            Rule {
                api_groups: star(),
                resources: star(),
                verbs: star(),
                ..Rule::default()
            },
            Rule {
                urls: star(),
                verbs: star(),
                ..Rule::default()
            },
        ]
    }
}
