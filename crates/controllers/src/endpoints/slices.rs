//! The EndpointSlices of Services that select pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::Client;

use super::hints::{self, Zones};
use super::pack::{self, Group, Template};
use super::writer::Writer;
use super::{HEADLESS, MANAGED_BY, Members, SERVICE_NAME, is_headless, pod, selects};
use crate::error::Error;
use crate::informer::{Cache, Change, Informer, Key};
use crate::owner::controller_ref;
use crate::pods;
use crate::queue::{Queue, Reconcile};

const MANAGER: &str = "endpointslice-controller.k8s.io";

/// The EndpointSlice controller.
#[derive(Clone)]
pub(crate) struct Controller {
    services: Cache<Service>,
    nodes: Cache<Node>,
    members: Members,
    writer: Writer,
    queue: Queue<Key>,
}

impl Controller {
    pub(super) fn new(
        client: Client,
        members: &Members,
        services: &Informer<Service>,
        nodes: &mut Informer<Node>,
        slices: &mut Informer<EndpointSlice>,
    ) -> Self {
        let queue: Queue<Key> = Queue::default();
        let woken = queue.clone();
        let writer = Writer::new(client, MANAGER, slices, move |service| woken.add(service));
        let controller = Self {
            services: services.cache(),
            nodes: nodes.cache(),
            members: members.clone(),
            writer,
            queue,
        };
        let this = controller.clone();
        nodes.on_change(move |change| this.node_changed(change));
        controller
    }

    /// A node's zone is in its endpoints; what zones there are, and how large, matters to those that spread.
    fn node_changed(&self, change: &Change<Node>) {
        let zone = |node: &Node| hints::zone(node).map(str::to_owned);
        let moved = match change {
            Change::Updated { old, new } => zone(old) != zone(new),
            Change::Added(node) | Change::Deleted(node) => zone(node).is_some(),
        };
        let resized = match change {
            Change::Updated { old, new } => hints::capacity(old) != hints::capacity(new),
            _ => true,
        };
        if moved || resized {
            for service in self.services.list() {
                if moved || hints::is_auto(&service) {
                    self.queue.add(Key::of(&*service));
                }
            }
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "endpointslice";
    const WORKERS: usize = 8;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        // Slices go with their Service: the garbage collector sees to it. Those of one that no longer selects
        // anything stay for whoever looks after them now.
        let Some(service) = self.services.get(&key) else {
            return Ok(());
        };
        let leaving = service.metadata.deletion_timestamp.is_some();
        if leaving || !selects(&service) {
            return Ok(());
        }
        let Some(existing) = self.writer.slices_of(&key) else {
            return Ok(());
        };
        let pods = self.members.of(&key);
        let groups = self.groups(&service, &pods);
        let actions = pack::pack(&template(&service), groups, &families(&service), &existing);
        self.writer.apply(&key, actions).await
    }
}

impl Controller {
    /// The Service's endpoints by family and ports, with hints.
    fn groups(&self, service: &Service, pods: &[Arc<Pod>]) -> Vec<Group> {
        let mut groups = Vec::new();
        for family in families(service) {
            let mut endpoints = Vec::new();
            for pod in pods.iter().filter(|pod| pod::counts(pod)) {
                if let Some(address) = pod::address(pod, &family) {
                    let endpoint = pod::endpoint(service, pod, address, self.zone_of(pod));
                    endpoints.push((pod::ports(service, pod), endpoint));
                }
            }
            self.hint(service, &mut endpoints);
            groups.extend(grouped(&family, endpoints));
        }
        groups
    }

    fn hint(&self, service: &Service, endpoints: &mut [(Vec<Port>, Endpoint)]) {
        let all = endpoints.iter_mut().map(|(_, endpoint)| endpoint).collect();
        let zones = || Zones::of(&self.nodes.list());
        hints::set(service, all, zones);
    }

    fn zone_of(&self, pod: &Pod) -> Option<String> {
        let node = self.nodes.get(&Key::new("", pods::node_name(pod)?))?;
        hints::zone(&node).map(str::to_owned)
    }
}

type Port = k8s_openapi::api::discovery::v1::EndpointPort;

/// Endpoints with the same ports together.
fn grouped(family: &str, endpoints: Vec<(Vec<Port>, Endpoint)>) -> Vec<Group> {
    let mut by_ports: BTreeMap<Vec<pack::PortKey>, Group> = BTreeMap::new();
    for (ports, endpoint) in endpoints {
        let group = by_ports.entry(pack::port_keys(&ports)).or_insert_with(|| Group {
            family: family.to_owned(),
            ports,
            endpoints: Vec::new(),
        });
        group.endpoints.push(endpoint);
    }
    by_ports.into_values().collect()
}

/// The Service's families; those of its addresses where an old object doesn't say.
fn families(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let listed = spec.ip_families.clone().unwrap_or_default();
    if !listed.is_empty() {
        return listed;
    }
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    vec![if address.contains(':') { "IPv6" } else { "IPv4" }.to_owned()]
}

fn template(service: &Service) -> Template {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|label, _| ![SERVICE_NAME, MANAGED_BY, HEADLESS].contains(&label.as_str()));
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    Template {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        prefix: format!("{name}-"),
        labels,
        owner: controller_ref(service),
    }
}
