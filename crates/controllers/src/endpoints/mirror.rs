//! EndpointSlices of Endpoints that somebody else looks after: of Services that select nothing.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::Client;

use super::pack::{self, Action, Group, Template};
use super::writer::Writer;
use super::{MANAGED_BY, SERVICE_NAME, SKIP_MIRROR};
use crate::error::Error;
use crate::informer::{Cache, Informer, Key};
use crate::owner::controller_ref;
use crate::queue::{Queue, Reconcile};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints that are used to elect somebody.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// How many addresses of a subset are mirrored.
const MOST: usize = 1000;

/// The controller that mirrors Endpoints.
#[derive(Clone)]
pub(crate) struct Controller {
    services: Cache<Service>,
    endpoints: Cache<Endpoints>,
    writer: Writer,
    queue: Queue<Key>,
}

impl Controller {
    pub(super) fn new(
        client: Client,
        services: &mut Informer<Service>,
        endpoints: &mut Informer<Endpoints>,
        slices: &mut Informer<EndpointSlice>,
    ) -> Self {
        let queue: Queue<Key> = Queue::default();
        let woken = queue.clone();
        let writer = Writer::new(client, MANAGER, slices, move |owner| woken.add(owner));
        let woken = queue.clone();
        services.on_change(move |change| woken.add(Key::of(&**change.object())));
        let woken = queue.clone();
        endpoints.on_change(move |change| woken.add(Key::of(&**change.object())));
        Self {
            services: services.cache(),
            endpoints: endpoints.cache(),
            writer,
            queue,
        }
    }

    /// What is to be mirrored under a name.
    fn wanted(&self, key: &Key) -> Option<Arc<Endpoints>> {
        let service = self.services.get(key)?;
        let spec = service.spec.as_ref()?;
        let selects = spec
            .selector
            .as_ref()
            .is_some_and(|selector| !selector.is_empty());
        let endpoints = self.endpoints.get(key)?;
        (!selects && may_be_mirrored(&endpoints)).then_some(endpoints)
    }

    /// Slices whose Endpoints went while nobody looked.
    pub(crate) fn look_at_all(&self) {
        self.writer
            .owners()
            .into_iter()
            .for_each(|owner| self.queue.add(owner));
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "endpointslice mirroring";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(existing) = self.writer.slices_of(&key) else {
            return Ok(());
        };
        let actions = match self.wanted(&key) {
            Some(endpoints) => pack::pack(&template(&endpoints), groups(&endpoints), &[], &existing),
            None => existing.into_iter().map(Action::Delete).collect(),
        };
        self.writer.apply(&key, actions).await
    }
}

fn may_be_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skip = meta.labels.as_ref().and_then(|labels| labels.get(SKIP_MIRROR));
    let elects = meta
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(LEADER));
    skip.is_none_or(|skip| skip != "true") && !elects
}

fn template(endpoints: &Endpoints) -> Template {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    Template {
        namespace: endpoints.metadata.namespace.clone().unwrap_or_default(),
        prefix: format!("{name}-"),
        labels,
        owner: controller_ref(endpoints),
    }
}

fn groups(endpoints: &Endpoints) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
        for (family, endpoint) in addresses(subset) {
            let like = |group: &&mut Group| {
                group.family == family && pack::port_keys(&group.ports) == pack::port_keys(&ports)
            };
            match groups.iter_mut().find(like) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group {
                    family: family.to_owned(),
                    ports: ports.clone(),
                    endpoints: vec![endpoint],
                }),
            }
        }
    }
    groups
}

fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&'static str, Endpoint)> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset
        .not_ready_addresses
        .iter()
        .flatten()
        .map(|address| (address, false));
    ready.chain(unready).take(MOST).map(|(address, ready)| {
        let family = if address.ip.contains(':') { "IPv6" } else { "IPv4" };
        (family, endpoint(address, ready))
    })
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn port(port: &k8s_openapi::api::core::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    }
}
