//! What the API says about Services and their endpoints, kept as small as it can be, with the names
//! of those that changed.
//!
//! ```text
//! Services ───────watch──┐
//!                        ├──► Catalogue ──► changed names, one Service at a time ──► the network part
//! EndpointSlices ─watch──┘
//! ```
//!
//! Nothing is told before both lists are complete: half a list would take the other half's endpoints
//! away. While the API is away what was known stays.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use go_json::Read;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client};
use kube_objects::{Names, SELECTOR, ServiceProblem};
use model::{ServiceName, Slice};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::complaints::{Complaints, Source};
use crate::watching::{self, Follower, Keeps, Key, Watched, key};

/// How many objects are read at once: a slice has 100 endpoints, of some hundred bytes each.
const PAGE: u32 = 100;

/// Services with their endpoints, as the API has them.
#[derive(Debug)]
pub struct Catalogue {
    known: Mutex<Known>,
    /// How often something changed.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    services: BTreeMap<ServiceName, model::Service>,
    /// Whose an address is.
    at: HashMap<IpAddr, ServiceName>,
    slices: BTreeMap<ServiceName, BTreeMap<String, Arc<Slice>>>,
    /// The Services of slices, by the slices' namespaces and names.
    owners: HashMap<Key, ServiceName>,
    names: Names,
    complaints: Complaints,
    changed: BTreeSet<ServiceName>,
    services_listed: bool,
    slices_listed: bool,
}

impl Default for Catalogue {
    fn default() -> Catalogue {
        Catalogue {
            known: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Catalogue {
    /// One that tells what can't be used.
    pub(crate) fn with(complaints: Complaints) -> Catalogue {
        let known = Known {
            complaints,
            ..Known::default()
        };
        Catalogue {
            known: Mutex::new(known),
            ..Catalogue::default()
        }
    }

    /// What couldn't be planned of a Service.
    pub(crate) fn note(&self, service: &ServiceName, notes: &[String]) {
        let complaints = &mut self.known().complaints;
        complaints.find(service, Source::Plan, notes.to_vec());
    }

    /// Says when something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The names of those that changed since the last time; none until everything is known.
    pub fn take_changed(&self) -> Option<BTreeSet<ServiceName>> {
        let mut known = self.known();
        (known.services_listed && known.slices_listed).then(|| std::mem::take(&mut known.changed))
    }

    /// The names of all.
    pub fn names(&self) -> Vec<ServiceName> {
        self.known().services.keys().cloned().collect()
    }

    /// Those with an endpoint on one of these nodes.
    pub(crate) fn on_nodes(&self, nodes: &BTreeSet<String>) -> BTreeSet<ServiceName> {
        if nodes.is_empty() {
            return BTreeSet::new();
        }
        let is_there = |slice: &Arc<Slice>| {
            let mut own = slice
                .endpoints
                .iter()
                .filter_map(|endpoint| endpoint.node.as_deref());
            own.any(|node| nodes.contains(node))
        };
        let known = self.known();
        let those = known
            .slices
            .iter()
            .filter(|(_, slices)| slices.values().any(is_there));
        those.map(|(name, _)| name.clone()).collect()
    }

    /// The Service that has an address.
    pub(crate) fn at(&self, address: IpAddr) -> Option<ServiceName> {
        self.known().at.get(&address).cloned()
    }

    /// One Service with its endpoints.
    pub fn get(&self, name: &ServiceName) -> Option<model::Service> {
        let known = self.known();
        let service = known.services.get(name)?;
        Some(model::Service {
            slices: known.slices.get(name).cloned().unwrap_or_default(),
            ..service.clone()
        })
    }

    /// Takes changes in, and tells of them if there are any.
    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        let was_listed = known.services_listed && known.slices_listed;
        change(&mut known);
        let is_listed = known.services_listed && known.slices_listed;
        let tell = is_listed && (!was_listed || !known.changed.is_empty());
        drop(known);
        if tell {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kind of object that a [`Catalogue`] is made of.
trait Listed: Watched {
    /// Takes an object in, as it is now.
    fn put(self, known: &mut Known);
    /// Takes an object out.
    fn remove(key: &Key, known: &mut Known);
    /// The namespaces and names of all.
    fn keys(known: &Known) -> Vec<Key>;
    /// The list is complete.
    fn listed(known: &mut Known);
}

impl Listed for Service {
    fn put(self, known: &mut Known) {
        let name = kube_objects::service_name(&self);
        let Some((service, problems)) = kube_objects::service(&self) else {
            return Self::remove(&(name.namespace, name.name), known);
        };
        // Another mistake may make the same of it.
        known.complaints.find(&name, Source::Object, texts(&problems));
        if known.services.get(&name) != Some(&service) {
            known.disclaim(&name);
            let addresses = addresses(&service).map(|address| (address, name.clone()));
            known.at.extend(addresses);
            known.services.insert(name.clone(), service);
            known.changed.insert(name);
        }
    }

    fn remove((namespace, name): &Key, known: &mut Known) {
        let name = ServiceName::new(namespace, name);
        known.disclaim(&name);
        known.complaints.forget(&name);
        if known.services.remove(&name).is_some() {
            known.changed.insert(name);
        }
    }

    fn keys(known: &Known) -> Vec<Key> {
        let names = known.services.keys();
        names
            .map(|name| (name.namespace.clone(), name.name.clone()))
            .collect()
    }

    fn listed(known: &mut Known) {
        known.services_listed = true;
    }
}

impl Listed for EndpointSlice {
    fn put(self, known: &mut Known) {
        let key = key(&self);
        let owner = kube_objects::slice_owner(&self);
        if known.owners.get(&key) != owner.as_ref() {
            Self::remove(&key, known);
        }
        let Some(owner) = owner else { return };
        let (slice, problems) = kube_objects::slice(&self, &mut known.names);
        let all = known.slices.entry(owner.clone()).or_default();
        if all.get(&key.1).map(Arc::as_ref) != Some(&slice) {
            // One of many endpoints is nothing to be said of the Service.
            for problem in problems {
                warn!(service = %owner, %problem, "an endpoint can't be used");
            }
            all.insert(key.1.clone(), Arc::new(slice));
            known.changed.insert(owner.clone());
        }
        known.owners.insert(key, owner);
    }

    fn remove(key: &Key, known: &mut Known) {
        let Some(owner) = known.owners.remove(key) else {
            return;
        };
        if let Some(all) = known.slices.get_mut(&owner) {
            all.remove(&key.1);
            if all.is_empty() {
                known.slices.remove(&owner);
            }
        }
        known.changed.insert(owner);
    }

    fn keys(known: &Known) -> Vec<Key> {
        known.owners.keys().cloned().collect()
    }

    fn listed(known: &mut Known) {
        known.slices_listed = true;
    }
}

impl Known {
    /// The addresses of a Service as it was are nobody's.
    fn disclaim(&mut self, name: &ServiceName) {
        let held = self.services.get(name).into_iter().flat_map(addresses);
        for address in held {
            if self.at.get(&address) == Some(name) {
                self.at.remove(&address);
            }
        }
    }
}

/// All addresses of a Service.
fn addresses(service: &model::Service) -> impl Iterator<Item = IpAddr> {
    let all = [
        &service.cluster_ips,
        &service.load_balancer_ips,
        &service.external_ips,
    ];
    all.into_iter().flatten().copied()
}

fn texts(problems: &[ServiceProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

impl<K: Listed> Keeps<K> for Catalogue {
    fn put(&self, object: K) {
        self.change(|known| object.put(known));
    }

    fn gone(&self, object: &K) {
        self.change(|known| K::remove(&key(object), known));
    }

    fn listed(&self, all: &BTreeSet<Key>) {
        self.change(|known| {
            let gone = K::keys(known).into_iter().filter(|key| !all.contains(key));
            gone.for_each(|key| K::remove(&key, known));
            K::listed(known);
        });
    }
}

/// Follows the API until `shutdown`, however often it goes away.
pub async fn follow(client: Client, catalogue: Arc<Catalogue>, shutdown: CancellationToken) {
    tokio::join!(
        watch_kind::<Service>(Api::all(client.clone()), &catalogue, &shutdown),
        watch_kind::<EndpointSlice>(Api::all(client), &catalogue, &shutdown),
    );
}

async fn watch_kind<K: Listed>(api: Api<Read<K>>, catalogue: &Catalogue, shutdown: &CancellationToken) {
    let config = watcher::Config::default().labels(SELECTOR).page_size(PAGE);
    let mut follower = Follower::new(catalogue);
    watching::follow(
        api,
        config,
        |event| follower.step(watching::plain(event)),
        shutdown,
    )
    .await;
}

#[cfg(test)]
impl Catalogue {
    /// As if the API had these Services and slices, and no others.
    pub(crate) fn list(&self, all: &[[serde_json::Value; 2]]) {
        use kube::runtime::watcher::Event;

        let (mut services, mut slices) = (Follower::new(self), Follower::new(self));
        services.step(Event::<Service>::Init);
        slices.step(Event::<EndpointSlice>::Init);
        for [service, slice] in all.iter().cloned() {
            services.step(Event::InitApply(
                serde_json::from_value::<Service>(service).expect("a Service"),
            ));
            slices.step(Event::InitApply(
                serde_json::from_value::<EndpointSlice>(slice).expect("an EndpointSlice"),
            ));
        }
        services.step(Event::<Service>::InitDone);
        slices.step(Event::<EndpointSlice>::InitDone);
    }

    /// As if one was changed.
    pub(crate) fn put(&self, [service, slice]: [serde_json::Value; 2]) {
        let service: Service = serde_json::from_value::<Service>(service).expect("a Service");
        let slice: EndpointSlice = serde_json::from_value::<EndpointSlice>(slice).expect("an EndpointSlice");
        self.change(|known| service.put(known));
        self.change(|known| slice.put(known));
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn service(name: &str, address: &str) -> Service {
        let object = json!({"metadata": {"name": name, "namespace": "shop"},
                            "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
        serde_json::from_value(object).expect("a Service")
    }

    fn slice(name: &str, owner: &str, address: &str) -> EndpointSlice {
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": owner}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": [address]}],
        });
        serde_json::from_value(object).expect("an EndpointSlice")
    }

    fn followers(catalogue: &Catalogue) -> (Follower<'_, Catalogue>, Follower<'_, Catalogue>) {
        (Follower::new(catalogue), Follower::new(catalogue))
    }

    fn changed(catalogue: &Catalogue) -> Vec<String> {
        let changed = catalogue.take_changed().expect("everything is known");
        changed.into_iter().map(|name| name.name).collect()
    }

    #[test]
    fn nothing_is_told_before_both_lists_are_complete() {
        let catalogue = Catalogue::default();
        let (mut services, mut slices) = followers(&catalogue);
        let mut changes = catalogue.changes();
        services.step(Event::<Service>::Init);
        services.step(Event::InitApply(service("web", "10.96.0.20")));
        services.step(Event::<Service>::InitDone);
        assert_eq!(catalogue.take_changed(), None);
        slices.step(Event::<EndpointSlice>::Init);
        slices.step(Event::InitApply(slice("web-1", "web", "10.244.1.5")));
        assert!(!changes.has_changed().expect("open"));
        slices.step(Event::<EndpointSlice>::InitDone);
        assert!(changes.has_changed().expect("open"));
        changes.mark_unchanged();
        assert_eq!(changed(&catalogue), ["web"]);
        let name = ServiceName::new("shop", "web");
        assert_eq!(catalogue.get(&name).expect("it is known").slices.len(), 1);
    }

    fn complete() -> Catalogue {
        let catalogue = Catalogue::default();
        let (mut services, mut slices) = followers(&catalogue);
        services.step(Event::<Service>::Init);
        services.step(Event::InitApply(service("web", "10.96.0.20")));
        services.step(Event::InitApply(service("api", "10.96.0.21")));
        services.step(Event::<Service>::InitDone);
        slices.step(Event::<EndpointSlice>::Init);
        slices.step(Event::InitApply(slice("web-1", "web", "10.244.1.5")));
        slices.step(Event::<EndpointSlice>::InitDone);
        catalogue.take_changed();
        catalogue
    }

    #[test]
    fn a_slice_changes_its_service_alone() {
        let catalogue = complete();
        let (_, mut slices) = followers(&catalogue);
        slices.step(Event::Apply(slice("api-1", "api", "10.244.1.6")));
        assert_eq!(changed(&catalogue), ["api"]);
        slices.step(Event::Apply(slice("api-1", "api", "10.244.1.6")));
        assert!(changed(&catalogue).is_empty(), "the same again");
        // It becomes another Service's.
        slices.step(Event::Apply(slice("api-1", "web", "10.244.1.6")));
        assert_eq!(changed(&catalogue), ["api", "web"]);
        slices.step(Event::Delete(slice("api-1", "web", "10.244.1.6")));
        assert_eq!(changed(&catalogue), ["web"]);
    }

    #[test]
    fn a_new_list_takes_away_what_is_not_in_it() {
        let catalogue = complete();
        let (mut services, mut slices) = followers(&catalogue);
        services.step(Event::<Service>::Init);
        services.step(Event::InitApply(service("web", "10.96.0.20")));
        assert!(changed(&catalogue).is_empty());
        services.step(Event::<Service>::InitDone);
        assert_eq!(changed(&catalogue), ["api"]);
        slices.step(Event::<EndpointSlice>::Init);
        slices.step(Event::<EndpointSlice>::InitDone);
        assert_eq!(changed(&catalogue), ["web"]);
    }

    #[test]
    fn what_cannot_be_used_of_a_service_is_told_although_nothing_else_changes() {
        let (complaints, mut receiver) = Complaints::with_writer();
        let catalogue = Catalogue::with(complaints);
        let (mut services, _) = followers(&catalogue);
        let mut told = || std::iter::from_fn(|| receiver.try_recv().ok()).count();
        let strategy = |strategy: &str| {
            let mut service = service("web", "10.96.0.20");
            let annotation = (kube_objects::STRATEGY.to_owned(), strategy.to_owned());
            service.metadata.annotations = Some(BTreeMap::from([annotation]));
            service
        };
        services.step(Event::Apply(strategy("fastest")));
        assert_eq!(told(), 1);
        services.step(Event::Apply(strategy("fastest")));
        assert_eq!(told(), 0, "the same again");
        services.step(Event::Apply(strategy("nearest")));
        assert_eq!(told(), 1, "it is random as before");
        services.step(Event::Apply(strategy("maglev")));
        assert_eq!(told(), 0);
    }

    #[test]
    fn a_service_that_loses_its_address_is_gone() {
        let catalogue = complete();
        let (mut services, _) = followers(&catalogue);
        services.step(Event::Apply(service("web", "None")));
        assert_eq!(changed(&catalogue), ["web"]);
        assert_eq!(catalogue.get(&ServiceName::new("shop", "web")), None);
    }
}
