//! Which kinds the server has, for the controllers that work on all of them.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::core::{ApiResource, DynamicObject, GroupVersion, PartialObjectMeta};
use kube::{Api, Client};

use crate::error::{Doing, Error};

/// An object of any kind, of which only the metadata is wanted.
pub(crate) type Metadata = PartialObjectMeta<DynamicObject>;

/// A kind that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    /// Whether this is the version to work with: a kind may have others.
    pub(crate) preferred: bool,
    verbs: Vec<String>,
}

impl Kind {
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|own| own == verb))
    }

    /// The API of this kind in a namespace; kinds without namespaces have one for all.
    pub(crate) fn api(&self, client: Client, namespace: &str) -> Api<Metadata> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }

    /// The resource as errors and conditions name it: `deployments.apps`, `pods.`.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.resource.plural, self.resource.group)
    }

    #[cfg(test)]
    pub(crate) fn fake(api_version: &str, kind: &str, namespaced: bool) -> Self {
        let version: GroupVersion = api_version.parse().unwrap();
        let plural = format!("{}s", kind.to_lowercase());
        Self {
            resource: ApiResource::from_gvk_with_plural(&version.with_kind(kind), &plural),
            namespaced,
            preferred: true,
            verbs: ["list", "watch", "delete"].map(str::to_owned).to_vec(),
        }
    }
}

/// Asks the server for every kind, in all its versions.
pub(crate) async fn discover(client: &Client) -> Result<Vec<Kind>, Error> {
    let core = client.list_core_api_resources("v1").await;
    let core = core.doing(|| "discover the kinds of the core API".to_owned())?;
    let mut kinds = to_kinds("v1", core.resources);
    let groups = client.list_api_groups().await;
    let groups = groups.doing(|| "discover the API groups".to_owned())?;
    for group in groups.groups {
        let first = group.preferred_version.map(|version| version.group_version);
        let others = group.versions.into_iter().map(|version| version.group_version);
        let others = others
            .filter(|version| Some(version) != first.as_ref())
            .collect::<Vec<_>>();
        let mut known = HashSet::new();
        for version in first.iter().chain(&others) {
            let list = client.list_api_group_resources(version).await;
            let list = list.doing(|| format!("discover the kinds of {version}"))?;
            for mut kind in to_kinds(version, list.resources) {
                kind.preferred = known.insert(kind.resource.plural.clone());
                kinds.push(kind);
            }
        }
    }
    Ok(kinds)
}

fn to_kinds(api_version: &str, resources: Vec<APIResource>) -> Vec<Kind> {
    let Ok(version) = api_version.parse::<GroupVersion>() else {
        return Vec::new();
    };
    let whole = resources
        .into_iter()
        .filter(|resource| !resource.name.contains('/'));
    whole
        .map(|resource| Kind {
            resource: ApiResource::from_gvk_with_plural(
                &version.clone().with_kind(&resource.kind),
                &resource.name,
            ),
            namespaced: resource.namespaced,
            preferred: true,
            verbs: resource.verbs,
        })
        .collect()
}
