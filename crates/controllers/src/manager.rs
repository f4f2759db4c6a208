//! Starts every controller on shared watches.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::informer::{Informer, Watched};
use crate::node::{eviction, health, pod_gc, ranges};
use crate::queue::serve;
use crate::recorder::Recorder;
use crate::{
    Clients, Config, Error, aggregation, balancer, defaults, deployment, disruption, dns, endpoints, gc,
    namespace, node, replicaset, service_cidr,
};

/// Runs all controllers until the shutdown.
///
/// # Errors
/// When the configuration cannot work. Requests that fail are no error: they are tried again.
pub async fn run(
    clients: impl Into<Clients>,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let clients = clients.into();
    let client = clients.shared();
    node::check_ranges(&config.cluster_cidrs, config.node_mask_v4, config.node_mask_v6)?;
    let recorder = Recorder::spawn(client.clone(), "controllers", shutdown.clone());
    let mut watches = Watches::new(&client);
    let controllers = Controllers::new(&clients, &config, &recorder, &mut watches);
    let gone = pod_gc::Controller::new(
        clients.of("pod-garbage-collector"),
        &config,
        watches.nodes.cache(),
        watches.pods.cache(),
    );
    let mut tasks = JoinSet::new();
    let synced = watches.start(&mut tasks, &shutdown);
    let collector = gc::driver::Collector::new(clients.of("generic-garbage-collector"));
    tasks.spawn(collector.run(shutdown.clone()));
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = synced => {
            info!("controllers started");
            tasks.spawn(gone.run(shutdown.clone()));
            controllers.start(&mut tasks, &shutdown);
        }
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            warn!(%error, "a controller ended early");
        }
    }
    Ok(())
}

/// One watch a kind.
struct Watches {
    namespaces: Informer<Namespace>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    /// Those that every namespace has.
    accounts: Informer<ServiceAccount>,
    root_cas: Informer<ConfigMap>,
    /// Those of nodes.
    leases: Informer<Lease>,
    roles: Informer<ClusterRole>,
    budgets: Informer<PodDisruptionBudget>,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    service_cidrs: Informer<ServiceCIDR>,
    ip_addresses: Informer<IPAddress>,
}

fn all<K: Watched>(client: &Client) -> Informer<K> {
    Informer::new(Api::all(client.clone()), watcher::Config::default())
}

/// A watch of all objects of one name.
fn named<K: Watched>(client: &Client, name: &str) -> Informer<K> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    Informer::new(Api::all(client.clone()), config)
}

impl Watches {
    fn new(client: &Client) -> Self {
        let leases = Api::namespaced(client.clone(), health::LEASES);
        Self {
            namespaces: all(client),
            nodes: all(client),
            pods: all(client),
            deployments: all(client),
            replica_sets: all(client),
            accounts: named(client, defaults::ACCOUNT),
            root_cas: named(client, defaults::ROOT_CA),
            leases: Informer::new(leases, watcher::Config::default()),
            roles: all(client),
            budgets: all(client),
            services: all(client),
            endpoints: all(client),
            slices: all(client),
            service_cidrs: all(client),
            ip_addresses: all(client),
        }
    }

    /// Starts the watches; the future ends when all have their first list.
    fn start(
        self,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let mut synced = JoinSet::new();
        watch(self.namespaces, tasks, &mut synced, shutdown);
        watch(self.nodes, tasks, &mut synced, shutdown);
        watch(self.pods, tasks, &mut synced, shutdown);
        watch(self.deployments, tasks, &mut synced, shutdown);
        watch(self.replica_sets, tasks, &mut synced, shutdown);
        watch(self.accounts, tasks, &mut synced, shutdown);
        watch(self.root_cas, tasks, &mut synced, shutdown);
        watch(self.leases, tasks, &mut synced, shutdown);
        watch(self.roles, tasks, &mut synced, shutdown);
        watch(self.budgets, tasks, &mut synced, shutdown);
        watch(self.services, tasks, &mut synced, shutdown);
        watch(self.endpoints, tasks, &mut synced, shutdown);
        watch(self.slices, tasks, &mut synced, shutdown);
        watch(self.service_cidrs, tasks, &mut synced, shutdown);
        watch(self.ip_addresses, tasks, &mut synced, shutdown);
        async move { while synced.join_next().await.is_some() {} }
    }
}

fn watch<K: Watched>(
    informer: Informer<K>,
    tasks: &mut JoinSet<()>,
    synced: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) {
    let cache = informer.cache();
    tasks.spawn(informer.run(shutdown.clone()));
    synced.spawn(async move { cache.synced().await });
}

/// The controllers that work on queues.
struct Controllers {
    aggregation: aggregation::Controller,
    balancer: balancer::Balancer,
    defaults: defaults::Controller,
    deployments: deployment::driver::Controller,
    disruptions: disruption::Controller,
    dns: dns::Controller,
    endpoints: endpoints::Controllers,
    eviction: eviction::Controller,
    health: health::Controller,
    namespaces: namespace::Controller,
    ranges: ranges::Controller,
    replica_sets: replicaset::driver::Controller,
    service_cidrs: service_cidr::Controller,
}

impl Controllers {
    fn new(clients: &Clients, config: &Config, recorder: &Recorder, watches: &mut Watches) -> Self {
        let w = watches;
        let client = |controller| clients.of(controller);
        let node_client = || client("node-controller");
        Self {
            aggregation: aggregation::Controller::new(
                client("clusterrole-aggregation-controller"),
                &mut w.roles,
            ),
            balancer: balancer::Balancer::new(clients, config, recorder, &mut w.services, &mut w.nodes),
            defaults: defaults::Controller::new(
                client("service-account-controller"),
                client("root-ca-cert-publisher"),
                &config.ca_pem,
                &mut w.namespaces,
                &mut w.accounts,
                &mut w.root_cas,
            ),
            deployments: deployment::driver::Controller::new(
                client("deployment-controller"),
                recorder,
                &mut w.deployments,
                &mut w.replica_sets,
                &mut w.pods,
            ),
            disruptions: disruption::Controller::new(
                client("disruption-controller"),
                recorder,
                &mut w.budgets,
                &mut w.pods,
                &w.replica_sets,
                &mut w.deployments,
            ),
            dns: dns::Controller::new(client("endpoint-controller"), &mut w.nodes),
            endpoints: endpoints::Controllers::new(
                clients,
                endpoints::Watches {
                    services: &mut w.services,
                    pods: &mut w.pods,
                    nodes: &mut w.nodes,
                    endpoints: &mut w.endpoints,
                    slices: &mut w.slices,
                },
            ),
            eviction: eviction::Controller::new(node_client(), recorder, &mut w.nodes, &mut w.pods),
            health: health::Controller::new(
                node_client(),
                recorder,
                config,
                &mut w.nodes,
                &mut w.leases,
                &w.pods,
            ),
            namespaces: namespace::Controller::new(client("namespace-controller"), &mut w.namespaces),
            ranges: ranges::Controller::new(node_client(), recorder, config, &mut w.nodes),
            replica_sets: replicaset::driver::Controller::new(
                client("replicaset-controller"),
                recorder,
                &mut w.replica_sets,
                &mut w.pods,
            ),
            service_cidrs: service_cidr::Controller::new(
                client("service-cidrs-controller"),
                &mut w.service_cidrs,
                &mut w.ip_addresses,
            ),
        }
    }

    fn start(self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        // What nodes have already must be known before anything is given.
        self.ranges.load();
        self.balancer.start(tasks, shutdown);
        self.endpoints.start(tasks, shutdown);
        tasks.spawn(serve(self.aggregation, shutdown.clone()));
        tasks.spawn(serve(self.defaults, shutdown.clone()));
        tasks.spawn(serve(self.deployments, shutdown.clone()));
        tasks.spawn(serve(self.disruptions, shutdown.clone()));
        tasks.spawn(serve(self.dns, shutdown.clone()));
        tasks.spawn(serve(self.eviction, shutdown.clone()));
        tasks.spawn(health::Controller::tick(self.health.clock(), shutdown.clone()));
        tasks.spawn(serve(self.health, shutdown.clone()));
        tasks.spawn(serve(self.namespaces, shutdown.clone()));
        tasks.spawn(serve(self.ranges, shutdown.clone()));
        tasks.spawn(serve(self.replica_sets, shutdown.clone()));
        tasks.spawn(serve(self.service_cidrs, shutdown.clone()));
    }
}
