//! What is in force: people's settings, and the node's `resolv.conf`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::forward::Routes;
use crate::metrics::count;
use crate::resolv_conf::ResolvConf;
use crate::resolver::Resolver;
use crate::settings::{self, Mistake, Settings, Surroundings};

/// How soon a change of `resolv.conf` is noticed.
const LOOK: Duration = Duration::from_secs(5);

/// Puts settings in force.
#[derive(Debug)]
pub(crate) struct Control {
    resolver: Arc<Resolver>,
    around: Surroundings,
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// As people wrote them.
    data: BTreeMap<String, String>,
    settings: Settings,
    of_node: ResolvConf,
}

impl Control {
    /// The node's servers, and nothing set.
    pub(crate) fn new(resolver: Arc<Resolver>, around: Surroundings, path: PathBuf) -> Control {
        let control = Control {
            resolver,
            around,
            path,
            held: Mutex::default(),
        };
        control.look();
        control
    }

    /// Puts in force what people wrote. Tells whether it's new, and what can't be understood.
    pub(crate) fn set(&self, data: BTreeMap<String, String>) -> (bool, Vec<Mistake>) {
        let mut held = self.held();
        let (settings, mistakes) = settings::read(&data, &held.settings, &self.around);
        let changed = held.data != data;
        for mistake in mistakes.iter().filter(|_| changed) {
            count(&self.resolver.metrics.mistakes);
            tracing::warn!(%mistake, "a setting can't be understood: what was in force stays");
        }
        held.data = data;
        if held.settings != settings {
            tracing::info!(?settings, "settings");
            held.settings = settings.clone();
            self.resolver.set_settings(settings);
        }
        self.route(&held);
        (changed, mistakes)
    }

    /// As people wrote them.
    pub(crate) fn data(&self) -> BTreeMap<String, String> {
        self.held().data.clone()
    }

    /// The domains that the node's resolver completes names with.
    pub(crate) fn searches(&self) -> Vec<String> {
        self.held().of_node.searches.clone()
    }

    /// Looks at `resolv.conf` now and then.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => self.look(),
            }
        }
    }

    fn look(&self) {
        // One that can't be read is being written, or was never there.
        let Ok(text) = std::fs::read_to_string(&self.path) else {
            return;
        };
        let found = ResolvConf::parse(&text, &self.around.own);
        let mut held = self.held();
        if held.of_node != found {
            held.of_node = found;
            self.route(&held);
        }
    }

    fn route(&self, held: &Held) {
        let upstreams = held.settings.upstreams.as_ref().unwrap_or(&held.of_node.servers);
        let routes = Routes {
            upstreams: upstreams.clone(),
            stubs: held.settings.stubs.clone(),
            keep: held.settings.keep,
            stale: held.settings.stale,
        };
        if self.resolver.forwarder.set_routes(routes) {
            let path = self.path.display();
            match upstreams.as_slice() {
                [] => {
                    tracing::warn!(%path, "no servers are known: outside names will not be resolved; name some in resolv.conf or in the ConfigMap")
                }
                servers => tracing::info!(?servers, "outside names are asked for at these servers"),
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
