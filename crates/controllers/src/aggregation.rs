//! Aggregated ClusterRoles: the rules of every role that their selectors find, gathered into one.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Api, Client};
use serde_json::json;

use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Informer, Key};
use crate::queue::{Queue, Reconcile};

/// The rules that an aggregated role should have; `None` when it has them, or gathers none.
fn sync(role: &ClusterRole, all: &[std::sync::Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = selectors(role);
    if selectors.is_empty() {
        return None;
    }
    let mut found: Vec<_> = all
        .iter()
        .filter(|other| other.metadata.name != role.metadata.name)
        .filter(|other| selects(&selectors, other))
        .collect();
    found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in found.into_iter().flat_map(|other| other.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

fn selectors(role: &ClusterRole) -> Vec<LabelSelector> {
    let rule = role.aggregation_rule.as_ref();
    rule.and_then(|rule| rule.cluster_role_selectors.clone())
        .unwrap_or_default()
}

fn selects(selectors: &[LabelSelector], role: &ClusterRole) -> bool {
    let labels = role.metadata.labels.clone().unwrap_or_default();
    selectors.iter().any(|selector| {
        // One that can't be understood selects nothing; the server lets none such in.
        Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(&labels))
    })
}

/// The controller.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    roles: Cache<ClusterRole>,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(client: Client, roles: &mut Informer<ClusterRole>) -> Self {
        let queue: Queue<Key> = Queue::default();
        let (woken, cache) = (queue.clone(), roles.cache());
        // A role that changes may be gathered by any other: there are few that gather.
        roles.on_change(move |_| {
            let gathering = cache
                .list()
                .into_iter()
                .filter(|role| !selectors(role).is_empty());
            gathering.for_each(|role| woken.add(Key::of(&*role)));
        });
        Self {
            client,
            roles: roles.cache(),
            queue,
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "role aggregation";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(role) = self.roles.get(&key) else {
            return Ok(());
        };
        let Some(rules) = sync(&role, &self.roles.list()) else {
            return Ok(());
        };
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": role.metadata.resource_version }, "rules": rules }));
        let written = api.patch(&key.name, &PatchParams::default(), &patch).await;
        let written = written.doing(|| format!("gather the rules of ClusterRole {key}"));
        ignore_missing(written).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;

    fn role(name: &str, labels: Value, gathers: Option<&str>, resources: &[&str]) -> Arc<ClusterRole> {
        let rules: Vec<_> = resources
            .iter()
            .map(|resource| json!({ "verbs": ["get"], "apiGroups": [""], "resources": [resource] }))
            .collect();
        let mut role = json!({ "metadata": { "name": name, "labels": labels }, "rules": rules });
        if let Some(label) = gathers {
            let selector = json!({ "matchLabels": { label: "true" } });
            role["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
        }
        Arc::new(serde_json::from_value(role).unwrap())
    }

    fn gathered(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<String>> {
        let rules = sync(role, all)?;
        let resources = rules
            .into_iter()
            .flat_map(|rule| rule.resources.unwrap_or_default());
        Some(resources.collect())
    }

    #[test]
    fn the_rules_of_selected_roles_are_gathered_once_in_order() {
        let labels = || json!({ "to-edit": "true" });
        let edit = role("edit", json!({ "to-edit": "true" }), Some("to-edit"), &["stale"]);
        let all = [
            edit.clone(),
            role("b", labels(), None, &["pods", "secrets"]),
            role("a", labels(), None, &["pods", "services"]),
            role("c", json!({}), None, &["nodes"]),
        ];
        assert_eq!(gathered(&edit, &all).unwrap(), ["pods", "services", "secrets"]);
    }

    #[test]
    fn what_is_gathered_already_is_left_alone_and_so_are_plain_roles() {
        let all = [
            role("a", json!({ "x": "true" }), None, &["pods"]),
            role("both", json!({}), Some("x"), &["pods"]),
            role("none", json!({}), Some("y"), &["pods"]),
        ];
        assert_eq!(gathered(&all[0], &all), None);
        assert_eq!(gathered(&all[1], &all), None);
        assert_eq!(gathered(&all[2], &all).unwrap(), [""; 0]);
    }
}
