//! Puts the default roles and bindings in place, at every start.
//!
//! What is missing is created, and what lost rights or subjects gets them back; what was added stays. An object
//! whose annotation `rbac.authorization.kubernetes.io/autoupdate` is `false` is left alone.

use kinds::Kind;
use serde_json::{Value, json};

use super::default::{self, Object};
use super::rule::{self, Rule};
use super::{GROUP, Rbac};
use crate::auth::identity::Identity;
use crate::call::Call;
use crate::create;
use crate::delete;
use crate::object::{self, list, text};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::update::{self, Change, Part, Target};

/// What the agent may do on any cluster, and the name of its role there.
const AGENT: &str = include_str!("../../../../../deploy/agent-rbac.yaml");
/// What the nodes' DNS may do.
const DNS: &str = include_str!("../../../../../deploy/dns-rbac.yaml");
/// What the controller of load balancers' addresses may do.
const LOAD_BALANCER: &str = include_str!("../../../../../deploy/load-balancer-rbac.yaml");

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

impl Rbac {
    /// Puts all defaults in place. They don't depend on each other: the store takes them in one go.
    pub(crate) async fn reconcile(server: &ApiServer) -> Result<(), Failure> {
        let mut objects = default::objects();
        // The agent is part of what a node is here.
        objects.extend(of_group(AGENT, "system:nodes", "nodes")?);
        objects.extend(of_group(DNS, "ripstop:dns", "processes")?);
        objects.extend(as_written(LOAD_BALANCER)?);
        let work = objects.iter().map(|object| one(server, object));
        futures::future::try_join_all(work).await?;
        Ok(())
    }
}

/// The cluster's roles and bindings in a manifest of ours, for the ServiceAccount that it names.
fn as_written(manifest: &str) -> Result<Vec<Object>, Failure> {
    let documents = serde_saphyr::from_multiple::<Value>(manifest).map_err(Failure::internal)?;
    let object = |value: Value| {
        let plural = match text(&value, "/kind") {
            "ClusterRole" => "clusterroles",
            "ClusterRoleBinding" => "clusterrolebindings",
            _ => return None,
        };
        Some(Object { plural, value })
    };
    Ok(documents.into_iter().filter_map(object).collect())
}

/// The roles in a manifest of ours, given to a group.
fn of_group(manifest: &str, group: &str, whose: &str) -> Result<Vec<Object>, Failure> {
    let documents = serde_saphyr::from_multiple::<Value>(manifest).map_err(Failure::internal)?;
    let mut objects = Vec::new();
    for role in documents {
        let (plural, bindings, binding) = match text(&role, "/kind") {
            "ClusterRole" => ("clusterroles", "clusterrolebindings", "ClusterRoleBinding"),
            "Role" => ("roles", "rolebindings", "RoleBinding"),
            _ => continue,
        };
        let name = text(&role, "/metadata/name");
        let mut bound = json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": binding,
            "metadata": { "name": format!("{name}:{whose}") },
            "roleRef": { "apiGroup": GROUP, "kind": role["kind"], "name": name },
            "subjects": [{ "apiGroup": GROUP, "kind": "Group", "name": group }],
        });
        if let Some(namespace) = role["metadata"].get("namespace") {
            bound["metadata"]["namespace"] = namespace.clone();
        }
        objects.push(Object { plural, value: role });
        objects.push(Object {
            plural: bindings,
            value: bound,
        });
    }
    Ok(objects)
}

async fn one(server: &ApiServer, wanted: &Object) -> Result<(), Failure> {
    let kind = kinds::find(GROUP, "v1", wanted.plural).expect("the table has roles and bindings");
    let name = text(&wanted.value, "/metadata/name");
    let namespace = text(&wanted.value, "/metadata/namespace");
    let namespace = kind.namespaced().then_some(namespace);
    let Some(entry) = server.store.get(&object::key(kind, namespace, name))? else {
        return create_one(server, kind, namespace, &wanted.value).await;
    };
    let current = object::parse(&entry.value)?;
    if current["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return Ok(());
    }
    if is_another_role(&current, &wanted.value) {
        // A binding's role can't be changed: it is made anew.
        delete::delete(server, kind, namespace, name, &delete::Options::default()).await?;
        return create_one(server, kind, namespace, &wanted.value).await;
    }
    if reconciled(&current, &wanted.value)? == current {
        return Ok(());
    }
    let identity = Identity::server();
    let target = Target {
        kind,
        namespace,
        name,
        part: Part::Server,
        dry_run: false,
        manager: "kube-apiserver",
        subresource: "",
        identity: &identity,
    };
    update::update(server, target, |current| {
        reconciled(current, &wanted.value).map(Change::To)
    })
    .await?;
    Ok(())
}

async fn create_one(
    server: &ApiServer,
    kind: &Kind,
    namespace: Option<&str>,
    wanted: &Value,
) -> Result<(), Failure> {
    let call = Call::of_server(kind, namespace);
    match create::create(server, &call, wanted.clone()).await {
        Err(failure) if failure.reason != "AlreadyExists" => Err(failure),
        _ => Ok(()),
    }
}

fn is_another_role(current: &Value, wanted: &Value) -> bool {
    let named = |object: &Value| {
        let reference = &object["roleRef"];
        (
            text(reference, "/kind").to_owned(),
            text(reference, "/name").to_owned(),
        )
    };
    wanted.get("roleRef").is_some() && named(current) != named(wanted)
}

/// The current object with everything that the wanted one has.
fn reconciled(current: &Value, wanted: &Value) -> Result<Value, Failure> {
    let mut object = current.clone();
    for field in ["labels", "annotations"] {
        let missing = wanted["metadata"].get(field).and_then(Value::as_object);
        let missing = missing.filter(|missing| !missing.is_empty());
        if let Some(missing) = missing {
            object::child(&mut object["metadata"], field).extend(missing.clone());
        }
    }
    if let Some(aggregation) = wanted.get("aggregationRule") {
        // The rules are what the controller gathers.
        object["aggregationRule"] = aggregation.clone();
    } else if let Some(rules) = wanted.get("rules") {
        let missing = missing_rules(current, rules)?;
        append(&mut object, "rules", missing);
    }
    let missing: Vec<_> = list(wanted, "/subjects")
        .iter()
        .filter(|subject| !list(current, "/subjects").contains(subject))
        .cloned()
        .collect();
    append(&mut object, "subjects", missing);
    Ok(object)
}

fn missing_rules(current: &Value, wanted: &Value) -> Result<Vec<Value>, Failure> {
    let parse = |rules: &Value| {
        let rules: Result<Option<Vec<Rule>>, _> = serde_json::from_value(rules.clone());
        rules.map(Option::unwrap_or_default).map_err(Failure::internal)
    };
    let (owned, wanted) = (parse(&current["rules"])?, parse(wanted)?);
    let missing = rule::compact(rule::uncovered(&owned, &wanted));
    let missing = missing.into_iter().map(serde_json::to_value);
    missing.collect::<Result<_, _>>().map_err(Failure::internal)
}

fn append(object: &mut Value, field: &str, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    match object[field].as_array_mut() {
        Some(there) => there.extend(more),
        None => object[field] = more.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back_and_what_was_added_stays() {
        let wanted = json!({
            "metadata": { "labels": { "a": "b" } },
            "rules": [{ "verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"] }],
            "subjects": [{ "kind": "User", "name": "x" }],
        });
        let current = json!({
            "metadata": { "labels": { "own": "label" } },
            "rules": [{ "verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"] }],
            "subjects": [{ "kind": "User", "name": "y" }],
        });
        let object = reconciled(&current, &wanted).unwrap();
        assert_eq!(object["metadata"]["labels"], json!({ "a": "b", "own": "label" }));
        assert_eq!(
            object["rules"][1],
            json!({ "verbs": ["list"], "apiGroups": [""], "resources": ["pods"] })
        );
        assert_eq!(list(&object, "/subjects").len(), 2);
        assert_eq!(reconciled(&object, &wanted).unwrap(), object, "once is enough");
    }

    #[test]
    fn a_gathered_role_keeps_what_was_gathered() {
        let wanted = json!({ "aggregationRule": { "x": 1 }, "rules": [] });
        let current = json!({ "metadata": {}, "rules": [{ "verbs": ["get"] }] });
        let object = reconciled(&current, &wanted).unwrap();
        assert_eq!(object["rules"], current["rules"]);
        assert_eq!(object["aggregationRule"], wanted["aggregationRule"]);
    }

    #[test]
    fn the_manifests_say_what_our_processes_may() {
        let [agent, dns] = [AGENT, DNS].map(|manifest| of_group(manifest, "ours", "nodes").unwrap());
        let kinds = |objects: &[Object]| -> Vec<_> { objects.iter().map(|object| object.plural).collect() };
        assert_eq!(
            kinds(&agent),
            ["clusterroles", "clusterrolebindings", "roles", "rolebindings"]
        );
        assert_eq!(kinds(&dns), ["clusterroles", "clusterrolebindings"]);
        for pair in agent.chunks(2).chain(dns.chunks(2)) {
            let [role, binding] = pair else {
                panic!("each role is bound")
            };
            assert_eq!(
                text(&role.value, "/metadata/name"),
                text(&binding.value, "/roleRef/name")
            );
            let kind = kinds::find(GROUP, "v1", role.plural).unwrap();
            assert_eq!(kind.decode(&role.value).unwrap().unknown, [""; 0]);
            assert_eq!(kind.validate(&role.value, None), []);
        }
    }
}
