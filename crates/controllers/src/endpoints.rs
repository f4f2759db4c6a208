//! Services' endpoints: EndpointSlices, and the older Endpoints.
//!
//! ```text
//! Services, pods, nodes ─► members (who selects whom) ─► slices: pod ─► hints ─► pack ─► EndpointSlices
//!                                                    └─► legacy ─────────────────────► Endpoints
//! Endpoints of Services that select nothing ─────────► mirror ───────────────► pack ─► EndpointSlices
//! ```

mod hints;
mod legacy;
mod members;
mod mirror;
mod pack;
mod pod;
mod slices;
mod start;
mod writer;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::informer::Key;

use members::Members;
pub(crate) use start::Watches;

/// The Service that a slice is of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who keeps a slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Endpoints that no slices are made of.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Of a Service without an address.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The controllers, with what they share.
#[derive(Clone)]
pub(crate) struct Controllers {
    members: Members,
    slices: slices::Controller,
    legacy: legacy::Controller,
    mirror: mirror::Controller,
}

/// Whether pods are the Service's endpoints.
fn selects(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    !external && selector.is_some_and(|selector| !selector.is_empty())
}

fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The Service of a slice, and who keeps it.
fn owner_of(slice: &EndpointSlice) -> Option<(Key, &str)> {
    let labels = slice.metadata.labels.as_ref()?;
    let namespace = slice.metadata.namespace.as_deref()?;
    let manager = labels.get(MANAGED_BY).map_or("", String::as_str);
    Some((Key::new(namespace, labels.get(SERVICE_NAME)?), manager))
}
