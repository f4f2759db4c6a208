//! Runs the table against the API.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tracing::info;

use super::table::{Pool, Table};
use super::wish;
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Informer, Key};
use crate::queue::{Queue, Reconcile};
use crate::recorder::{EventType, Recorder};

/// The controller of load balancers' addresses.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    recorder: Recorder,
    services: Cache<Service>,
    table: Arc<Mutex<Table>>,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(
        client: Client,
        recorder: &Recorder,
        pools: &[Pool],
        services: &mut Informer<Service>,
    ) -> Self {
        let queue: Queue<Key> = Queue::default();
        let woken = queue.clone();
        services.on_change(move |change| woken.add(Key::of(&**change.object())));
        Self {
            client,
            recorder: recorder.named("load-balancer"),
            services: services.cache(),
            table: Arc::new(Mutex::new(Table::new(pools.to_vec()))),
            queue,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .expect("no code panics while it holds the table")
    }

    /// Notes what every Service has already. Before that, nothing may be given to any.
    pub(crate) fn load(&self) {
        let mut services = self.services.list();
        // Of two that say they have the same, the older one has it.
        services.sort_by_key(|service| service.metadata.creation_timestamp.clone());
        let mut table = self.table();
        for service in services.iter().filter(|service| wish::is_ours(service)) {
            table.occupy(&Key::of(&**service), &wish::addresses(service));
        }
    }

    /// Those without an address may get what was freed.
    fn wake_waiting(&self) {
        for service in self.services.list() {
            if wish::is_ours(&service) && wish::addresses(&service).is_empty() {
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
            Ok(addresses) if addresses == current => self.warn_of_strays(&service, &addresses),
            Ok(addresses) => {
                self.write(&service, &addresses).await?;
                let list = list(&addresses);
                info!(service = %key, addresses = list, "load balancer addresses given");
                let message = format!("Assigned {list}");
                self.recorder
                    .event(&*service, EventType::Normal, "AddressAllocated", message);
                // Moved from one to another.
                if !current.is_empty() {
                    self.wake_waiting();
                }
            }
            Err(why) => {
                // What it has it keeps, but not what another has.
                let own = self.table().held_by(&key, &current);
                if own != current {
                    self.write(&service, &own).await?;
                }
                let message = format!("Failed to allocate an address: {why}");
                self.recorder
                    .event(&*service, EventType::Warning, "AddressAllocationFailed", message);
            }
        }
        Ok(())
    }
}

impl Controller {
    /// An address stays although its pool is gone: nobody's traffic breaks by a change of the pools.
    fn warn_of_strays(&self, service: &Service, addresses: &[IpAddr]) {
        let stray: Vec<IpAddr> = {
            let table = self.table();
            addresses
                .iter()
                .filter(|address| !table.is_in_pool(**address))
                .copied()
                .collect()
        };
        if !stray.is_empty() {
            let message = format!("{} is in no pool any more", list(&stray));
            self.recorder
                .event(service, EventType::Warning, "AddressNotInPool", message);
        }
    }

    async fn write(&self, service: &Service, addresses: &[IpAddr]) -> Result<(), Error> {
        let key = Key::of(service);
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
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
