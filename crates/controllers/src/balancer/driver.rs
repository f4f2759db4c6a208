//! Runs the table against the API.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::MutexGuard;
use std::time::Duration;

use go_json::Read;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tracing::info;

use super::pool::Pool;
use super::table::Table;
use super::{start, usage, wish};
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Key};
use crate::queue::{Queue, Reconcile};
use crate::recorder::{EventType, Recorder};

/// How long pools' statuses may lag behind: many Services come at once.
const LAG: Duration = Duration::from_millis(100);

/// The controller of load balancers' addresses.
#[derive(Clone)]
pub(super) struct Controller {
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) services: Cache<Service>,
    pub(super) nodes: Cache<Node>,
    /// Addresses that are the cluster's own, beside nodes'.
    pub(super) reserved: BTreeSet<IpAddr>,
    pub(super) usage: usage::Controller,
    pub(super) queue: Queue<Key>,
}

impl Controller {
    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.usage.table.lock();
        table.expect("no code panics while it holds the table")
    }

    /// Notes what every Service has already. Before that, nothing may be given to any.
    pub(super) fn load(&self) {
        let mut services = self.services.list();
        // Of two that say they have the same, the older one has it.
        services.sort_by_key(|service| service.metadata.creation_timestamp.clone());
        {
            let mut table = self.table();
            for service in services.iter().filter(|service| wish::is_ours(service)) {
                table.occupy(&Key::of(&**service), &wish::addresses(service));
            }
        }
        self.reserve();
    }

    /// Keeps nodes' own addresses from Services.
    pub(super) fn reserve(&self) {
        let nodes = self.nodes.list();
        let of_nodes = nodes.iter().flat_map(|node| start::addresses(node));
        let reserved = of_nodes.chain(self.reserved.iter().copied()).collect();
        if self.table().set_reserved(reserved) {
            self.wake_all();
            self.count();
        }
    }

    /// Takes over pools as they are now.
    pub(super) fn pools_changed(&self) {
        let pools = self.usage.pools.list();
        self.table()
            .set_pools(pools.iter().map(|pool| Pool::of(pool)).collect());
        self.wake_all();
        self.count();
    }

    /// The pools' statuses are to be looked at.
    fn count(&self) {
        for pool in self.usage.pools.list() {
            self.usage.queue.add_after(Key::of(&*pool), LAG);
        }
    }

    fn wake_all(&self) {
        for service in self.services.list() {
            if wish::is_ours(&service) {
                self.queue.add(Key::of(&*service));
            }
        }
    }

    /// Those without an address, of one family or at all, may get what was freed.
    fn wake_waiting(&self) {
        for service in self.services.list() {
            if wish::is_ours(&service) && wish::addresses(&service).len() < wish::families(&service).len() {
                self.queue.add(Key::of(&*service));
            }
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "load balancer addresses";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let service = self.services.get(&key);
        let Some(service) = service.filter(|service| wish::is_ours(service)) else {
            let freed = self.table().release(&key);
            if freed {
                self.count();
                self.wake_waiting();
            }
            return Ok(());
        };
        let current = wish::addresses(&service);
        let allocated = wish::of(&service).and_then(|wish| {
            let mut table = self.table();
            table.allocate(&key, &wish).map_err(|refusal| refusal.to_string())
        });
        match allocated {
            Ok(addresses) => self.give(&service, &current, &addresses).await,
            Err(why) => self.refuse(&service, &current, &why).await,
        }
    }
}

impl Controller {
    async fn give(&self, service: &Service, current: &[IpAddr], addresses: &[IpAddr]) -> Result<(), Error> {
        self.count();
        if addresses == current {
            return Ok(());
        }
        self.tell_lost(service, current);
        self.write(service, addresses).await?;
        let list = list(addresses);
        info!(service = %Key::of(service), addresses = list, "load balancer addresses given");
        let message = format!("Assigned {list}");
        self.recorder
            .event(service, EventType::Normal, "AddressAllocated", message);
        // Moved from one to another.
        if !current.is_empty() {
            self.wake_waiting();
        }
        Ok(())
    }

    /// What it has it keeps, but not what another has, nor what no pool has.
    async fn refuse(&self, service: &Service, current: &[IpAddr], why: &str) -> Result<(), Error> {
        let own = self.table().keep(&Key::of(service), current);
        if own != current {
            self.tell_lost(service, current);
            self.write(service, &own).await?;
            self.count();
            self.wake_waiting();
        }
        let message = format!("Failed to allocate an address: {why}");
        self.recorder
            .event(service, EventType::Warning, "AddressAllocationFailed", message);
        Ok(())
    }

    /// Says which addresses a Service had that no pool has any more.
    fn tell_lost(&self, service: &Service, current: &[IpAddr]) {
        let lost: Vec<IpAddr> = {
            let table = self.table();
            let lost = current.iter().filter(|address| !table.is_in_pool(**address));
            lost.copied().collect()
        };
        if !lost.is_empty() {
            let message = format!("{} is in no pool any more", list(&lost));
            self.recorder
                .event(service, EventType::Warning, "AddressNotInPool", message);
        }
    }

    async fn write(&self, service: &Service, addresses: &[IpAddr]) -> Result<(), Error> {
        let key = Key::of(service);
        let api: Api<Read<Service>> = Api::namespaced(self.client.clone(), &key.namespace);
        let ingress: Vec<Value> = addresses
            .iter()
            .map(|address| json!({ "ip": address, "ipMode": "VIP" }))
            .collect();
        let patch = Patch::Merge(json!({
            "metadata": { "uid": service.metadata.uid, "resourceVersion": service.metadata.resource_version },
            "status": { "loadBalancer": { "ingress": ingress } },
        }));
        let written = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
        ignore_missing(written.doing(|| format!("give Service {key} its addresses"))).map(drop)
    }
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
