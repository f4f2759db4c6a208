//! Discovery: which groups, versions and resources there are, one document at a time or all at once.

use kinds::Kind;
use serde_json::{Value, json};

use crate::auth::review::{REVIEWS, Review};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// Namespaces go one by one.
const NAMESPACE_VERBS: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];

/// A resource as discovery shows it, stored or not.
struct Resource<'a> {
    group: &'a str,
    version: &'a str,
    plural: &'a str,
    singular: &'a str,
    kind: &'a str,
    namespaced: bool,
    verbs: &'static [&'static str],
    short_names: Vec<&'a str>,
    categories: Vec<&'a str>,
    subresources: Vec<Subresource<'a>>,
}

struct Subresource<'a> {
    name: &'static str,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    verbs: &'static [&'static str],
}

impl<'a> Resource<'a> {
    fn of_kind(kind: &'a Kind) -> Resource<'a> {
        let names = kind.subresources().iter().copied();
        let own = names.chain(kind.has_status().then_some("status"));
        let mut subresources: Vec<_> = own
            .chain(kind.scale().is_some().then_some("scale"))
            .map(|name| Subresource::of_kind(kind, name))
            .collect();
        subresources.sort_by_key(|subresource| subresource.name);
        Resource {
            group: kind.group(),
            version: kind.version(),
            plural: kind.plural(),
            singular: kind.singular(),
            kind: kind.kind(),
            namespaced: kind.namespaced(),
            verbs: if kind.is("", "namespaces") {
                &NAMESPACE_VERBS
            } else {
                &VERBS
            },
            short_names: kind.short_names(),
            categories: kind.categories(),
            subresources,
        }
    }

    fn of_review(review: &'static Review) -> Resource<'static> {
        Resource {
            group: review.group,
            version: "v1",
            plural: review.plural,
            singular: review.singular,
            kind: review.kind,
            namespaced: review.namespaced,
            verbs: &["create"],
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
        }
    }

    fn group_version(&self) -> String {
        group_version(self.group, self.version)
    }
}

impl<'a> Subresource<'a> {
    /// A subresource speaks its parent's kind, unless it is one of these.
    fn of_kind(kind: &'a Kind, name: &'static str) -> Subresource<'a> {
        let (group, version, spoken, verbs): (_, _, _, &[&str]) = match (kind.plural(), name) {
            (_, "scale") => ("autoscaling", "v1", "Scale", &["get", "patch", "update"]),
            ("pods", "attach") => ("", "v1", "PodAttachOptions", &["create", "get"]),
            ("pods", "exec") => ("", "v1", "PodExecOptions", &["create", "get"]),
            ("pods", "portforward") => ("", "v1", "PodPortForwardOptions", &["create", "get"]),
            ("nodes", "proxy") => ("", "v1", "NodeProxyOptions", PROXY_VERBS),
            ("pods", "proxy") => ("", "v1", "PodProxyOptions", PROXY_VERBS),
            ("services", "proxy") => ("", "v1", "ServiceProxyOptions", PROXY_VERBS),
            ("pods", "binding") => ("", "v1", "Binding", &["create"]),
            ("pods", "eviction") => ("policy", "v1", "Eviction", &["create"]),
            ("pods", "log") => ("", "v1", "Pod", &["get"]),
            ("serviceaccounts", "token") => ("authentication.k8s.io", "v1", "TokenRequest", &["create"]),
            ("namespaces", "finalize") => ("", "v1", "Namespace", &["update"]),
            _ => (
                kind.group(),
                kind.version(),
                kind.kind(),
                &["get", "patch", "update"],
            ),
        };
        Subresource {
            name,
            group,
            version,
            kind: spoken,
            verbs,
        }
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Those of the table, and `custom` ones.
fn resources(custom: &[Kind]) -> impl Iterator<Item = Resource<'_>> {
    let stored = kinds::all().iter().map(Resource::of_kind);
    let reviews = REVIEWS.iter().map(|review| Resource::of_review(review));
    stored.chain(reviews).chain(custom.iter().map(Resource::of_kind))
}

/// Groups in order of appearance, each with its versions, preferred first.
fn groups(custom: &[Kind]) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for resource in resources(custom) {
        match groups.iter_mut().find(|(group, _)| *group == resource.group) {
            Some((_, versions)) if versions.contains(&resource.version) => {}
            Some((_, versions)) => versions.push(resource.version),
            None => groups.push((resource.group, vec![resource.version])),
        }
    }
    groups
}

/// The paths below `/api` and `/apis` that lead to resources, and those to groups.
pub(crate) fn paths(custom: &[Kind]) -> Vec<String> {
    let mut paths = Vec::new();
    for (group, versions) in groups(custom) {
        let root = match group {
            "" => "/api".to_owned(),
            group => format!("/apis/{group}"),
        };
        paths.extend(versions.iter().map(|version| format!("{root}/{version}")));
        // `/api` itself is no group's.
        paths.extend((!group.is_empty()).then_some(root));
    }
    paths
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

/// `/apis`.
pub(crate) fn group_list(custom: &[Kind]) -> Value {
    let groups: Vec<_> = groups(custom)
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_document(group, versions))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`.
pub(crate) fn group(name: &str, custom: &[Kind]) -> Option<Value> {
    let groups = groups(custom);
    let (group, versions) = groups
        .iter()
        .find(|(group, _)| *group == name && !name.is_empty())?;
    let mut document = group_document(group, versions);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

fn group_document(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<_> = versions
        .iter()
        .map(|version| json!({ "groupVersion": group_version(group, version), "version": version }))
        .collect();
    json!({ "name": group, "versions": versions, "preferredVersion": versions[0] })
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(crate) fn resource_list(group: &str, version: &str, custom: &[Kind]) -> Option<Value> {
    let mut entries = Vec::new();
    for resource in resources(custom).filter(|r| r.group == group && r.version == version) {
        let mut entry = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        entries.push(entry);
        entries.extend(resource.subresources.iter().map(|sub| sub_entry(&resource, sub)));
    }
    (!entries.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version(group, version),
            "resources": entries,
        })
    })
}

fn sub_entry(resource: &Resource<'_>, sub: &Subresource<'_>) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, sub.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.kind,
        "verbs": sub.verbs,
    });
    if group_version(sub.group, sub.version) != resource.group_version() {
        entry["group"] = sub.group.into();
        entry["version"] = sub.version.into();
    }
    entry
}

/// Everything below `/api` or `/apis` in one document of `apidiscovery.k8s.io`.
pub(crate) fn aggregated(core: bool, version: &str, custom: &[Kind]) -> Value {
    let items: Vec<_> = groups(custom)
        .iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<_> = versions
                .iter()
                .map(|v| aggregated_version(group, v, custom))
                .collect();
            json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_version(group: &str, version: &str, custom: &[Kind]) -> Value {
    let resources: Vec<_> = resources(custom)
        .filter(|r| r.group == group && r.version == version)
        .map(|resource| aggregated_resource(&resource))
        .collect();
    json!({ "version": version, "freshness": "Current", "resources": resources })
}

fn aggregated_resource(resource: &Resource<'_>) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": { "group": resource.group, "version": resource.version, "kind": resource.kind },
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let subresources: Vec<_> = resource
        .subresources
        .iter()
        .map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": { "group": sub.group, "version": sub.version, "kind": sub.kind },
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_discovered_in_both_forms() {
        let aggregated = [aggregated(true, "v2", &[]), aggregated(false, "v2", &[])];
        for kind in kinds::all() {
            let list = resource_list(kind.group(), kind.version(), &[]).unwrap();
            let plain = list["resources"].as_array().unwrap();
            assert!(
                plain.iter().any(|r| r["name"] == kind.plural()),
                "{}",
                kind.plural()
            );
            let groups = aggregated
                .iter()
                .flat_map(|list| list["items"].as_array().unwrap());
            let found = groups
                .filter(|group| group["metadata"]["name"] == kind.group())
                .flat_map(|group| group["versions"].as_array().unwrap())
                .flat_map(|version| version["resources"].as_array().unwrap())
                .any(|resource| resource["resource"] == kind.plural());
            assert!(found, "{}", kind.plural());
        }
    }

    #[test]
    fn a_subresource_says_which_kind_it_speaks() {
        let apps = resource_list("apps", "v1", &[]).unwrap();
        let resources = apps["resources"].as_array().unwrap();
        let scale = resources
            .iter()
            .find(|r| r["name"] == "deployments/scale")
            .unwrap();
        assert_eq!(
            (&scale["group"], &scale["kind"]),
            (&json!("autoscaling"), &json!("Scale"))
        );
        assert!(resource_list("apps", "v2", &[]).is_none());
        assert!(group("", &[]).is_none() && group("apps", &[]).is_some());
    }
}
