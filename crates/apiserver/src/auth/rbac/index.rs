//! Roles and bindings, arranged for the question "what may this user do here".

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use store::Change;

use super::GROUP;
use super::rule::Rule;
use crate::auth::identity::{Identity, account_user};
use crate::auth::view::Content;

/// Where roles and bindings are kept.
const PREFIX: &str = "/registry/rbac.authorization.k8s.io/";

/// One subject's share of a binding.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    binding: String,
    /// Where the rights hold; everywhere, for a ClusterRoleBinding.
    namespace: Option<String>,
    role: Role,
    subject: Subject,
}

/// The role that a binding refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Role {
    kind: String,
    name: String,
    /// Where it is kept.
    key: String,
}

/// Grants by a binding's key, or by the name of who holds them.
type Grants = HashMap<String, Vec<Arc<Grant>>>;

/// Everything that gives rights, by the keys of the store.
#[derive(Debug, Default)]
pub(super) struct Index {
    roles: HashMap<String, Box<[Rule]>>,
    bindings: Grants,
    by_user: Grants,
    by_group: Grants,
}

#[derive(Deserialize)]
struct RoleObject {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingObject {
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

impl Content for Index {
    const PREFIX: &'static str = PREFIX;

    fn put(&mut self, key: &str, object: &[u8], _: Change) {
        self.remove(key);
        self.add(key, object);
    }

    fn remove(&mut self, key: &str) {
        self.roles.remove(key);
        for grant in self.bindings.remove(key).unwrap_or_default() {
            let Some((map, holder)) = self.map(&grant) else {
                continue;
            };
            if let Some(held) = map.get_mut(&holder) {
                held.retain(|other| !Arc::ptr_eq(other, &grant));
                if held.is_empty() {
                    map.remove(&holder);
                }
            }
        }
    }
}

impl Index {
    fn add(&mut self, key: &str, object: &[u8]) {
        let Some(path) = key.strip_prefix(PREFIX) else {
            return;
        };
        let outcome = match path.split('/').collect::<Vec<_>>()[..] {
            ["clusterroles", _] | ["roles", _, _] => self.put_role(key, object),
            ["clusterrolebindings", name] => self.put_binding(key, name, None, object),
            ["rolebindings", namespace, name] => self.put_binding(key, name, Some(namespace), object),
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            // The table of kinds lets none such in.
            tracing::error!(key, %error, "an object that gives rights can't be read: it gives none");
        }
    }

    fn put_role(&mut self, key: &str, object: &[u8]) -> serde_json::Result<()> {
        let role: RoleObject = serde_json::from_slice(object)?;
        let rules = role.rules.unwrap_or_default();
        self.roles.insert(key.to_owned(), rules.into());
        Ok(())
    }

    fn put_binding(
        &mut self,
        key: &str,
        name: &str,
        namespace: Option<&str>,
        object: &[u8],
    ) -> serde_json::Result<()> {
        let binding: BindingObject = serde_json::from_slice(object)?;
        let role = role(binding.role_ref, namespace);
        let mut grants = Vec::new();
        for subject in binding.subjects.unwrap_or_default() {
            let grant = Arc::new(Grant {
                binding: name.to_owned(),
                namespace: namespace.map(str::to_owned),
                role: role.clone(),
                subject,
            });
            if let Some(holders) = self.holders(&grant) {
                holders.push(grant.clone());
                grants.push(grant);
            }
        }
        self.bindings.insert(key.to_owned(), grants);
        Ok(())
    }

    fn holders(&mut self, grant: &Grant) -> Option<&mut Vec<Arc<Grant>>> {
        let (map, holder) = self.map(grant)?;
        Some(map.entry(holder).or_default())
    }

    /// Under which name of which map a grant is found. A ServiceAccount is a user.
    fn map(&mut self, grant: &Grant) -> Option<(&mut Grants, String)> {
        let subject = &grant.subject;
        match subject.kind.as_str() {
            "User" => Some((&mut self.by_user, subject.name.clone())),
            "Group" => Some((&mut self.by_group, subject.name.clone())),
            "ServiceAccount" => {
                // One without a namespace is the binding's neighbour.
                let namespace = match subject.namespace.as_str() {
                    "" => grant.namespace.as_deref()?,
                    namespace => namespace,
                };
                Some((&mut self.by_user, account_user(namespace, &subject.name)))
            }
            _ => None,
        }
    }

    /// What holds for a user in a namespace, or cluster-wide where it is empty.
    pub(super) fn grants<'a>(
        &'a self,
        identity: &'a Identity,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Grant>> {
        let own = self.by_user.get(&identity.user);
        let groups = identity
            .groups
            .iter()
            .filter_map(|group| self.by_group.get(group));
        own.into_iter()
            .chain(groups)
            .flatten()
            .filter(move |grant| grant.namespace.as_deref().is_none_or(|own| own == namespace))
    }

    /// The rules of the role that is granted; `None` when there is no such role.
    pub(super) fn rules(&self, grant: &Grant) -> Option<&[Rule]> {
        self.roles.get(&grant.role.key).map(AsRef::as_ref)
    }
}

fn role(reference: RoleRef, namespace: Option<&str>) -> Role {
    let RoleRef { kind, name } = reference;
    let key = match (kind.as_str(), namespace) {
        ("Role", Some(namespace)) => format!("{PREFIX}roles/{namespace}/{name}"),
        _ => format!("{PREFIX}clusterroles/{name}"),
    };
    Role { kind, name, key }
}

impl Grant {
    /// As `kubectl auth can-i -v` and reviews tell it.
    pub(crate) fn describe(&self) -> String {
        let (binding, kind) = match &self.namespace {
            Some(namespace) => (format!("{}/{namespace}", self.binding), "RoleBinding"),
            None => (self.binding.clone(), "ClusterRoleBinding"),
        };
        let subject = &self.subject;
        let holder = if subject.kind == "ServiceAccount" {
            let namespace = match subject.namespace.as_str() {
                "" => self.namespace.as_deref().unwrap_or_default(),
                namespace => namespace,
            };
            format!("{}/{namespace}", subject.name)
        } else {
            subject.name.clone()
        };
        format!(
            "{kind} {binding:?} of {} {:?} to {} {holder:?}",
            self.role.kind, self.role.name, subject.kind
        )
    }

    /// What to say when the role isn't there.
    pub(super) fn missing_role(&self) -> String {
        let kind = self.role.kind.to_ascii_lowercase();
        format!("{kind}.{GROUP} {:?} not found", self.role.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn put(index: &mut Index, path: &str, object: &Value) {
        let key = format!("{PREFIX}{path}");
        index.put(&key, object.to_string().as_bytes(), Change::Updated);
    }

    fn binding(role: &str, subjects: &Value) -> Value {
        json!({ "subjects": subjects, "roleRef": { "kind": role, "name": "r" } })
    }

    fn count(index: &Index, identity: &Identity, namespace: &str) -> usize {
        index.grants(identity, namespace).count()
    }

    #[test]
    fn grants_are_found_by_user_group_and_account_where_they_hold() {
        let mut index = Index::default();
        let subjects = json!([
            { "kind": "User", "name": "jane" },
            { "kind": "Group", "name": "dev" },
            { "kind": "ServiceAccount", "name": "robot" },
            { "kind": "ServiceAccount", "name": "robot", "namespace": "other" },
        ]);
        put(&mut index, "rolebindings/ns/b", &binding("Role", &subjects));
        for identity in [
            Identity::new("jane", [""; 0]),
            Identity::new("x", ["dev"]),
            Identity::service_account("ns", "robot"),
            Identity::service_account("other", "robot"),
        ] {
            assert_eq!(count(&index, &identity, "ns"), 1, "{identity:?}");
            assert_eq!(count(&index, &identity, "other"), 0, "{identity:?}");
            assert_eq!(count(&index, &identity, ""), 0, "{identity:?}");
        }
        assert_eq!(
            count(&index, &Identity::service_account("third", "robot"), "ns"),
            0
        );

        // Everywhere, and an account without a namespace is nobody there.
        put(
            &mut index,
            "clusterrolebindings/b",
            &binding("ClusterRole", &subjects),
        );
        assert_eq!(count(&index, &Identity::new("jane", ["dev"]), "ns"), 4);
        assert_eq!(count(&index, &Identity::service_account("ns", "robot"), ""), 0);
        assert_eq!(count(&index, &Identity::service_account("other", "robot"), ""), 1);

        // A change and a deletion take back what was given.
        put(
            &mut index,
            "clusterrolebindings/b",
            &binding("ClusterRole", &json!(null)),
        );
        index.remove(&format!("{PREFIX}rolebindings/ns/b"));
        assert_eq!(count(&index, &Identity::new("jane", ["dev"]), "ns"), 0);
        assert!(index.by_user.is_empty() && index.by_group.is_empty());
    }

    #[test]
    fn a_role_that_is_missing_is_named_and_one_that_comes_later_counts() {
        let mut index = Index::default();
        let subjects = json!([{ "kind": "User", "name": "jane" }]);
        put(&mut index, "rolebindings/ns/b", &binding("Role", &subjects));
        let jane = Identity::new("jane", [""; 0]);
        let grant = index.grants(&jane, "ns").next().unwrap().clone();
        assert!(index.rules(&grant).is_none());
        assert_eq!(
            grant.missing_role(),
            "role.rbac.authorization.k8s.io \"r\" not found"
        );
        assert_eq!(
            grant.describe(),
            "RoleBinding \"b/ns\" of Role \"r\" to User \"jane\""
        );
        let role = json!({ "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }] });
        put(&mut index, "roles/ns/r", &role);
        assert_eq!(index.rules(&grant).unwrap().len(), 1);
        put(&mut index, "roles/ns/r", &json!({ "rules": null }));
        assert_eq!(index.rules(&grant).unwrap().len(), 0);
    }
}
