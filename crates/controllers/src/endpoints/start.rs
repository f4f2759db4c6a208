//! Puts the controllers of endpoints together.

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Controllers, Members, legacy, mirror, slices};
use crate::Clients;
use crate::informer::{Informer, Key};
use crate::queue::{Reconcile, serve};

/// The watches that they need.
pub(crate) struct Watches<'a> {
    pub(crate) services: &'a mut Informer<Service>,
    pub(crate) pods: &'a mut Informer<Pod>,
    pub(crate) nodes: &'a mut Informer<Node>,
    pub(crate) endpoints: &'a mut Informer<Endpoints>,
    pub(crate) slices: &'a mut Informer<EndpointSlice>,
}

impl Controllers {
    pub(crate) fn new(clients: &Clients, w: Watches<'_>) -> Self {
        let members = Members::new(w.pods.cache());
        let slices = slices::Controller::new(
            clients.of("endpointslice-controller"),
            &members,
            w.services,
            w.nodes,
            w.slices,
        );
        let legacy = legacy::Controller::new(
            clients.of("endpoint-controller"),
            &members,
            w.services,
            w.endpoints,
        );
        let client = clients.of("endpointslicemirroring-controller");
        let mirror = mirror::Controller::new(client, w.services, w.endpoints, w.slices);
        let controllers = Self {
            members,
            slices,
            legacy,
            mirror,
        };
        controllers.listen(w.services, w.pods);
        controllers
    }

    fn listen(&self, services: &mut Informer<Service>, pods: &mut Informer<Pod>) {
        let this = self.clone();
        services.on_change(move |change| {
            this.members.service_changed(change);
            this.wake(Key::of(&**change.object()));
        });
        let this = self.clone();
        pods.on_change(move |change| {
            for service in this.members.pod_changed(change) {
                this.wake(service);
            }
        });
    }

    fn wake(&self, service: Key) {
        self.slices.queue().add(service.clone());
        self.legacy.queue().add_after(service, legacy::BATCH);
    }

    /// Starts them; all watches have their first list.
    pub(crate) fn start(self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        self.members.load();
        self.legacy.look_at_all();
        self.mirror.look_at_all();
        tasks.spawn(serve(self.slices, shutdown.clone()));
        tasks.spawn(serve(self.legacy, shutdown.clone()));
        tasks.spawn(serve(self.mirror, shutdown.clone()));
    }
}
