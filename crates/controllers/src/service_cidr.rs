//! ServiceCIDRs: one in use stays until others have its addresses.

use std::net::IpAddr;
use std::sync::Arc;

use go_json::Read;
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Change, Informer, Key};
use crate::queue::{Queue, Reconcile};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The controller of ServiceCIDRs.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    cidrs: Cache<ServiceCIDR>,
    addresses: Cache<IPAddress>,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(
        client: Client,
        cidrs: &mut Informer<ServiceCIDR>,
        addresses: &mut Informer<IPAddress>,
    ) -> Self {
        let controller = Self {
            client,
            cidrs: cidrs.cache(),
            addresses: addresses.cache(),
            queue: Queue::default(),
        };
        // What happens to one may let another go.
        let this = controller.clone();
        cidrs.on_change(move |_| this.wake(|_| true));
        let this = controller.clone();
        addresses.on_change(move |change| {
            if matches!(change, Change::Deleted(_)) {
                this.wake(|cidr| cidr.metadata.deletion_timestamp.is_some());
            }
        });
        controller
    }

    fn wake(&self, which: impl Fn(&ServiceCIDR) -> bool) {
        for cidr in self.cidrs.list().iter().filter(|cidr| which(cidr)) {
            self.queue.add(Key::of(&**cidr));
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "service ranges";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(cidr) = self.cidrs.get(&key) else {
            return Ok(());
        };
        let leaving = cidr.metadata.deletion_timestamp.is_some();
        if !leaving {
            self.hold(&cidr).await?;
            return self
                .condition(&cidr, "True", "", "Kubernetes Service CIDR is ready")
                .await;
        }
        let addresses = self.addresses.list();
        let taken = addresses
            .iter()
            .filter_map(|address| name(&address.metadata)?.parse().ok());
        if is_needed(&cidr, &self.cidrs.list(), taken) {
            let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            return self.condition(&cidr, "False", "Terminating", why).await;
        }
        self.finalizers(&cidr, |finalizers| finalizers.retain(|one| one != FINALIZER))
            .await
    }
}

impl Controller {
    fn api(&self) -> Api<Read<ServiceCIDR>> {
        Api::all(self.client.clone())
    }

    async fn hold(&self, cidr: &ServiceCIDR) -> Result<(), Error> {
        self.finalizers(cidr, |finalizers| {
            if !finalizers.iter().any(|one| one == FINALIZER) {
                finalizers.push(FINALIZER.to_owned());
            }
        })
        .await
    }

    async fn finalizers(
        &self,
        cidr: &ServiceCIDR,
        change: impl FnOnce(&mut Vec<String>),
    ) -> Result<(), Error> {
        let before = cidr.metadata.finalizers.clone().unwrap_or_default();
        let mut finalizers = before.clone();
        change(&mut finalizers);
        if finalizers == before {
            return Ok(());
        }
        let patch = json!({ "metadata": {
            "resourceVersion": cidr.metadata.resource_version,
            "finalizers": finalizers,
        } });
        let name = name(&cidr.metadata).unwrap_or_default();
        let patched = self
            .api()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        ignore_missing(patched.doing(|| format!("change the finalizers of ServiceCIDR {name}"))).map(drop)
    }

    async fn condition(
        &self,
        cidr: &ServiceCIDR,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let conditions = cidr.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        if conditions.any(|condition| condition.type_ == "Ready" && condition.status == status) {
            return Ok(());
        }
        let condition = json!({ "type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": Timestamp::now() });
        let patch = json!({ "status": { "conditions": [condition] } });
        let name = name(&cidr.metadata).unwrap_or_default();
        let patched = self
            .api()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        ignore_missing(patched.doing(|| format!("say how ServiceCIDR {name} is"))).map(drop)
    }
}

fn name(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<&str> {
    meta.name.as_deref()
}

fn ranges(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let ranges = cidr.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
    ranges
        .into_iter()
        .flatten()
        .filter_map(|range| range.parse().ok())
        .collect()
}

/// Whether an address is taken that no other range has.
fn is_needed(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], mut taken: impl Iterator<Item = IpAddr>) -> bool {
    let own = ranges(cidr);
    let lasting = |other: &&Arc<ServiceCIDR>| {
        other.metadata.uid != cidr.metadata.uid && other.metadata.deletion_timestamp.is_none()
    };
    let others: Vec<IpNet> = all
        .iter()
        .filter(lasting)
        .flat_map(|other| ranges(other))
        .collect();
    let in_one = |ranges: &[IpNet], address: &IpAddr| ranges.iter().any(|range| range.contains(address));
    taken.any(|address| in_one(&own, &address) && !in_one(&others, &address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(name: &str, range: &str) -> Arc<ServiceCIDR> {
        let object = json!({ "metadata": { "name": name, "uid": name }, "spec": { "cidrs": [range] } });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_range_is_needed_while_it_alone_has_an_address_that_is_taken() {
        let (small, large) = (cidr("a", "10.96.0.0/24"), cidr("b", "10.96.0.0/16"));
        let needed = |all: &[Arc<ServiceCIDR>], taken: &str| {
            is_needed(&small, all, [taken.parse().unwrap()].into_iter())
        };
        assert!(needed(std::slice::from_ref(&small), "10.96.0.7"));
        assert!(!needed(std::slice::from_ref(&small), "10.96.1.7"));
        assert!(!needed(&[small.clone(), large], "10.96.0.7"));
    }
}
