//! How many pods there should be: the scale of what owns those that there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{DynamicObject, GroupVersion};
use kube::{Api, Client};

use crate::informer::{Cache, Key};
use crate::owner;

/// Where scales are read.
#[derive(Clone)]
pub(super) struct Scales {
    pub(super) client: Client,
    pub(super) replica_sets: Cache<ReplicaSet>,
    pub(super) deployments: Cache<Deployment>,
}

impl Scales {
    /// The scales of all owners together; pods without an owner don't count. Or why that can't be said.
    pub(super) async fn of(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<i32, String> {
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let Some(reference) = owner::controller_of(&pod.metadata) else {
                continue;
            };
            if scales.contains_key(&reference.uid) {
                continue;
            }
            if reference.kind == "ReplicaSet" {
                let (uid, scale) = self
                    .of_replica_set(namespace, reference)
                    .ok_or_else(|| unknown(pod))?;
                scales.insert(uid, scale);
            } else {
                let scale = self.asked(namespace, reference).await;
                let scale = scale.map_err(|error| format!("{}: {error}", unknown(pod)))?;
                scales.insert(reference.uid.clone(), scale);
            }
        }
        Ok(scales
            .values()
            .fold(0, |sum: i32, scale| sum.saturating_add(*scale)))
    }

    /// That of the Deployment behind it, if there is one: its pods of two versions count once.
    fn of_replica_set(&self, namespace: &str, reference: &OwnerReference) -> Option<(String, i32)> {
        let set = self.replica_sets.get(&Key::new(namespace, &reference.name))?;
        let uid = set.metadata.uid.clone().filter(|uid| *uid == reference.uid)?;
        let above = owner::controller_of(&set.metadata).filter(|above| above.kind == "Deployment");
        let above = above.and_then(|above| {
            let deployment = self.deployments.get(&Key::new(namespace, &above.name))?;
            let uid = deployment.metadata.uid.clone().filter(|uid| *uid == above.uid)?;
            Some((uid, deployment.spec.as_ref()?.replicas.unwrap_or(1)))
        });
        above.or_else(|| Some((uid, set.spec.as_ref()?.replicas.unwrap_or(1))))
    }

    /// That of any other kind that has one.
    async fn asked(&self, namespace: &str, reference: &OwnerReference) -> Result<i32, kube::Error> {
        let version: GroupVersion = reference.api_version.parse().map_err(|_| {
            kube::Error::Discovery(kube::error::DiscoveryError::InvalidGroupVersion(
                reference.api_version.clone(),
            ))
        })?;
        let kind = version.with_kind(&reference.kind);
        let (resource, _) = kube::discovery::pinned_kind(&self.client, &kind).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let scale = api.get_scale(&reference.name).await?;
        Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))
    }
}

fn unknown(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    format!("found no controllers for pod {name:?}")
}
