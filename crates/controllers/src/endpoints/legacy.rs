//! Endpoints, the older form: one object a Service, of its first family, a thousand addresses at most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::{HEADLESS, Members, is_headless, pack, pod, selects};
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Informer, Key};
use crate::pods;
use crate::queue::{Queue, Reconcile};

/// Each change writes the whole object, so changes wait for company.
pub(super) const BATCH: Duration = Duration::from_millis(50);
/// How many addresses an object has at most.
const MOST: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");

/// The Endpoints controller.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    services: Cache<Service>,
    endpoints: Cache<Endpoints>,
    members: Members,
    queue: Queue<Key>,
}

impl Controller {
    pub(super) fn new(
        client: Client,
        members: &Members,
        services: &Informer<Service>,
        endpoints: &mut Informer<Endpoints>,
    ) -> Self {
        let queue: Queue<Key> = Queue::default();
        let woken = queue.clone();
        endpoints.on_change(move |change| woken.add_after(Key::of(&**change.object()), BATCH));
        Self {
            client,
            services: services.cache(),
            endpoints: endpoints.cache(),
            members: members.clone(),
            queue,
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "endpoints";
    const WORKERS: usize = 4;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let current = self.endpoints.get(&key);
        let Some(service) = self.services.get(&key) else {
            return match current {
                Some(current) if is_ours(&current) => self.delete(&key, &current).await,
                _ => Ok(()),
            };
        };
        if !selects(&service) || service.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let wanted = wanted(&service, &self.members.of(&key), current.as_deref());
        match current {
            None => self.create(&key, &wanted).await,
            Some(current) if differs(&current, &wanted) => self.replace(&key, &wanted).await,
            Some(_) => Ok(()),
        }
    }
}

impl Controller {
    fn api(&self, key: &Key) -> Api<Endpoints> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    async fn create(&self, key: &Key, endpoints: &Endpoints) -> Result<(), Error> {
        let made = self.api(key).create(&PostParams::default(), endpoints).await;
        made.doing(|| format!("create Endpoints {key}")).map(drop)
    }

    async fn replace(&self, key: &Key, endpoints: &Endpoints) -> Result<(), Error> {
        let written = self
            .api(key)
            .replace(&key.name, &PostParams::default(), endpoints)
            .await;
        written.doing(|| format!("update Endpoints {key}")).map(drop)
    }

    async fn delete(&self, key: &Key, endpoints: &Endpoints) -> Result<(), Error> {
        let same = Preconditions {
            uid: endpoints.metadata.uid.clone(),
            resource_version: None,
        };
        let parameters = DeleteParams::default().preconditions(same);
        let deleted = self.api(key).delete(&key.name, &parameters).await;
        ignore_missing(deleted.doing(|| format!("delete Endpoints {key}"))).map(drop)
    }
}

/// Whether a controller made them for a Service that selects pods.
fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY.0))
        .map(String::as_str)
        == Some(MANAGED_BY.1)
}

fn differs(current: &Endpoints, wanted: &Endpoints) -> bool {
    let (old, new) = (&current.metadata, &wanted.metadata);
    old.labels != new.labels
        || old.annotations.clone().unwrap_or_default() != new.annotations.clone().unwrap_or_default()
        || current.subsets.as_deref().unwrap_or_default() != wanted.subsets.as_deref().unwrap_or_default()
}

/// The object as it should be; the current one's version makes sure that nobody else's change is lost.
fn wanted(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Endpoints {
    let (subsets, truncated) = subsets(service, pods);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut annotations = current
        .and_then(|current| current.metadata.annotations.clone())
        .unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            resource_version: current.and_then(|current| current.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        },
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

/// Addresses with the same ports together, and whether there are more than can be told: ready ones first.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let family = families
        .and_then(|families| families.first())
        .map_or("IPv4", String::as_str);
    let counted = pods.iter().filter(|pod| told(service, pod));
    let mut all: Vec<_> = counted
        .filter_map(|pod| Some((pod::is_ready(service, pod), pod, pod::address(pod, family)?)))
        .collect();
    all.sort_by_key(|(ready, pod, _)| (!ready, pod.metadata.name.clone()));
    let truncated = all.len() > MOST;
    all.truncate(MOST);
    let mut by_ports: BTreeMap<Vec<pack::PortKey>, EndpointSubset> = BTreeMap::new();
    for (ready, pod, address) in all {
        let ports = pod::ports(service, pod);
        if ports.is_empty() && !is_headless(service) {
            continue;
        }
        let subset = by_ports
            .entry(pack::port_keys(&ports))
            .or_insert_with(|| EndpointSubset {
                ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
                ..EndpointSubset::default()
            });
        let addresses = if ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        addresses.get_or_insert_default().push(EndpointAddress {
            hostname: pod::hostname(service, pod),
            ip: address.to_owned(),
            node_name: pods::node_name(pod).map(str::to_owned),
            target_ref: Some(pod::reference(pod)),
        });
    }
    (by_ports.into_values().collect(), truncated)
}

/// Those that end are told only where unready ones are wanted.
fn told(service: &Service, pod: &Pod) -> bool {
    pod::counts(pod) && (!pods::is_leaving(pod) || pod::publishes_unready(service))
}

fn port(port: k8s_openapi::api::discovery::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        app_protocol: port.app_protocol,
        name: port.name.filter(|name| !name.is_empty()),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol,
    }
}

impl Controller {
    /// Endpoints whose Service went while nobody looked.
    pub(crate) fn look_at_all(&self) {
        let keys: BTreeSet<Key> = self
            .endpoints
            .list()
            .iter()
            .map(|endpoints| Key::of(&**endpoints))
            .collect();
        keys.into_iter().for_each(|key| self.queue.add(key));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        let spec = json!({ "selector": { "a": "b" }, "ipFamilies": ["IPv4"], "ports": [{ "port": 80, "targetPort": "http" }] });
        serde_json::from_value(json!({ "metadata": { "name": "web", "labels": { "x": "y" } }, "spec": spec }))
            .unwrap()
    }

    fn pod(number: usize, port: u16, ready: bool) -> Arc<Pod> {
        let ready = json!({ "type": "Ready", "status": if ready { "True" } else { "False" } });
        let ip = format!("10.0.{}.{}", number / 250, number % 250 + 1);
        let object = json!({
            "metadata": { "name": format!("p{number:04}"), "uid": number.to_string() },
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": port }] }] },
            "status": { "podIP": ip, "podIPs": [{ "ip": ip }], "conditions": [ready] },
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn counts(subset: &EndpointSubset) -> (usize, usize) {
        let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
        (count(&subset.addresses), count(&subset.not_ready_addresses))
    }

    #[test]
    fn addresses_with_the_same_ports_are_told_together() {
        let pods = [pod(1, 8080, true), pod(2, 8080, false), pod(3, 9090, true)];
        let (subsets, truncated) = subsets(&service(), &pods);
        assert_eq!(subsets.iter().map(counts).collect::<Vec<_>>(), [(1, 1), (1, 0)]);
        assert_eq!(subsets[1].ports.as_ref().unwrap()[0].port, 9090);
        assert!(!truncated);
    }

    #[test]
    fn of_more_than_a_thousand_the_ready_ones_are_told() {
        let pods: Vec<_> = (0..1500).map(|n| pod(n, 80, n % 2 == 0)).collect();
        let endpoints = wanted(&service(), &pods, None);
        let subsets = endpoints.subsets.as_deref().unwrap();
        assert_eq!(counts(&subsets[0]), (750, 250));
        assert_eq!(
            endpoints.metadata.annotations.as_ref().unwrap()[OVER_CAPACITY],
            "truncated"
        );
        let fewer = wanted(&service(), &pods[..10], Some(&endpoints));
        assert!(fewer.metadata.annotations.is_none());
        assert!(differs(&endpoints, &fewer) && !differs(&fewer, &fewer));
    }
}
