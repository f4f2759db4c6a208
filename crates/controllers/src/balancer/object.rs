//! The kind LoadBalancerPool, as people write it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Serialize};

/// A pool of addresses. Its definition is `deploy/load-balancer-pools.yaml`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct LoadBalancerPool {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Option<Status>,
}

/// What it has, and who gets it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) addresses: Vec<String>,
    /// By itself, if it doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auto_assign: Option<bool>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) namespaces: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_selector: Option<LabelSelector>,
}

/// How much of it is used.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) used: i64,
    pub(super) ipv4: Family,
    pub(super) ipv6: Family,
    pub(super) conditions: Vec<Condition>,
}

/// Addresses of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Family {
    pub(super) used: i64,
    pub(super) free: i64,
}

impl Resource for LoadBalancerPool {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "LoadBalancerPool".into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        "ripstop.dev".into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "loadbalancerpools".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
