//! Puts the controllers of load balancers' addresses together. They begin by installing the kind of their pools:
//! everything else of the control plane doesn't wait for that.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{Node, Service};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::object::LoadBalancerPool;
use super::range::AddressRange;
use super::table::Table;
use super::{ACCOUNT, driver, install, usage};
use crate::informer::{Change, Informer, Key};
use crate::queue::{Queue, serve};
use crate::recorder::Recorder;
use crate::{Clients, Config};

/// Both controllers, and the watch of pools.
pub(crate) struct Balancer {
    client: Client,
    first_pool: Vec<AddressRange>,
    services: driver::Controller,
    usage: usage::Controller,
    pools: Informer<LoadBalancerPool>,
}

impl Balancer {
    pub(crate) fn new(
        clients: &Clients,
        config: &Config,
        recorder: &Recorder,
        services: &mut Informer<Service>,
        nodes: &mut Informer<Node>,
    ) -> Self {
        let client = clients.of(ACCOUNT);
        let pools: Informer<LoadBalancerPool> =
            Informer::new(Api::all(client.clone()), watcher::Config::default());
        let usage = usage::Controller {
            client: client.clone(),
            pools: pools.cache(),
            table: Arc::new(Mutex::new(Table::default())),
            queue: Queue::default(),
        };
        let driver = driver::Controller {
            client: client.clone(),
            recorder: recorder.named("load-balancer"),
            services: services.cache(),
            nodes: nodes.cache(),
            reserved: config.reserved_addresses.iter().copied().collect(),
            usage: usage.clone(),
            queue: Queue::default(),
        };
        let this = driver.clone();
        services.on_change(move |change| this.queue.add(Key::of(&**change.object())));
        let this = driver.clone();
        nodes.on_change(move |change| {
            if moved(change) {
                this.reserve();
            }
        });
        let mut balancer = Self {
            client,
            first_pool: config.load_balancer_pool.clone(),
            services: driver,
            usage,
            pools,
        };
        balancer.listen();
        balancer
    }

    /// Follows the pools. What they say of their use is no news.
    fn listen(&mut self) {
        let this = self.services.clone();
        self.pools.on_change(move |change| match change {
            Change::Updated { old, new } if old.spec == new.spec => {}
            _ => this.pools_changed(),
        });
    }

    /// Starts them; Services and nodes have their first lists.
    pub(crate) fn start(self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            if !install::install(&self.client, &self.first_pool, &shutdown).await {
                return;
            }
            let synced = self.usage.pools.clone();
            let watching = self.pools.run(shutdown.clone());
            let working = async {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = synced.synced() => {}
                }
                // What Services have already must be known before anything is given.
                self.services.load();
                tokio::join!(
                    serve(self.services, shutdown.clone()),
                    serve(self.usage, shutdown.clone())
                );
            };
            tokio::join!(watching, working);
        });
    }
}

/// Whether a node came, went, or has other addresses.
fn moved(change: &Change<Node>) -> bool {
    match change {
        Change::Updated { old, new } => addresses(old) != addresses(new),
        Change::Added(_) | Change::Deleted(_) => true,
    }
}

/// A node's own addresses.
pub(super) fn addresses(node: &Node) -> BTreeSet<IpAddr> {
    let status = node.status.iter();
    let addresses = status.flat_map(|status| status.addresses.iter().flatten());
    addresses
        .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
        .filter_map(|address| address.address.parse().ok())
        .collect()
}
