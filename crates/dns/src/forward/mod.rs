//! Names that aren't the cluster's: asked for elsewhere, once for all who ask, and remembered.
//!
//! ```text
//! question ─► cache ─┬─ fresh ───────────────────────────────────► answer
//!                    └─ over, or none ─► flight ─► servers ─┬─ ok ──► cache, answer
//!                       (one a question)                    └─ none ─► what was known before
//!                                                                      (RFC 8767), or a failure
//! ```

mod cache;
mod exchange;
mod limits;
mod servers;
mod way;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::rr::Name;
use tokio::sync::watch;

use crate::metrics::{Metrics, count};
use crate::wire::{Left, Question};
pub use cache::{Asked, Entry};
use cache::{Cache, Hit};
pub use limits::Bounds;
use limits::Limits;
use servers::Servers;
pub use way::{Elsewhere, Transport, Way};

/// How long an answer is waited for while there is an old one (RFC 8767 says 1.8 seconds).
const PATIENCE: Duration = Duration::from_millis(1800);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// Too many questions wait already.
    Busy,
    /// There is nobody to ask, or only whoever asks.
    Nobody,
    /// Nobody answered, or nobody knows.
    Unanswered,
    /// The client didn't want others to be asked.
    Unwanted,
}

/// Who is asked, and for how long answers hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Routes {
    /// For all names but those below.
    pub upstreams: Vec<SocketAddr>,
    /// For names in these domains, the longest first.
    pub stubs: Vec<(Name, Vec<SocketAddr>)>,
    /// The longest that an answer is kept.
    pub keep: Duration,
    /// The longest that it is used after that when nobody answers.
    pub stale: Duration,
}

/// [`Routes`] with what is known of the servers.
#[derive(Debug)]
struct Known {
    routes: Routes,
    upstreams: Arc<Servers>,
    stubs: Vec<(Name, Arc<Servers>)>,
}

impl Known {
    fn new(routes: Routes) -> Known {
        let of = |list: &[SocketAddr]| Arc::new(Servers::new(list));
        let stubs = routes.stubs.iter().map(|(name, list)| (name.clone(), of(list)));
        Known {
            upstreams: of(&routes.upstreams),
            stubs: stubs.collect(),
            routes,
        }
    }

    fn servers(&self, name: &Name) -> &Arc<Servers> {
        let stub = self.stubs.iter().find(|(domain, _)| domain.zone_of(name));
        stub.map_or(&self.upstreams, |(_, servers)| servers)
    }
}

type Outcome = Result<Arc<Entry>, Failed>;
type Flight = watch::Receiver<Option<Outcome>>;

/// Asks others.
#[derive(Debug)]
pub struct Forwarder {
    known: ArcSwap<Known>,
    cache: Cache,
    flights: Mutex<HashMap<Asked, Flight>>,
    limits: Limits,
    way: Way,
    metrics: Arc<Metrics>,
}

impl Forwarder {
    /// One that asks those.
    pub fn new(routes: Routes, bounds: Bounds, metrics: Arc<Metrics>) -> Forwarder {
        Forwarder {
            known: ArcSwap::from_pointee(Known::new(routes)),
            cache: Cache::new(bounds.cache_bytes),
            flights: Mutex::default(),
            limits: Limits::new(bounds),
            way: Way::default(),
            metrics,
        }
    }

    /// The same, asking from where that leads.
    #[must_use]
    pub fn by(self, way: Way) -> Forwarder {
        Forwarder { way, ..self }
    }

    /// Asks others from now on. What was said by those before is forgotten.
    pub fn set_routes(&self, routes: Routes) -> bool {
        let before = self.known.load();
        if before.routes == routes {
            return false;
        }
        let same_servers = before.routes.upstreams == routes.upstreams && before.routes.stubs == routes.stubs;
        self.known.store(Arc::new(Known::new(routes)));
        if !same_servers {
            self.cache.clear();
        }
        true
    }

    /// How many answers are remembered.
    pub fn remembered(&self) -> usize {
        self.cache.len()
    }

    /// What others say, for a client.
    pub async fn ask(
        self: &Arc<Self>,
        question: &Question,
        client: IpAddr,
    ) -> Result<(Arc<Entry>, Left), Failed> {
        let asked = Asked::new(question);
        let known = self.known.load_full();
        let old = match self.cache.get(&asked, known.routes.stale) {
            Hit::Fresh(entry) => {
                count(&self.metrics.cache_hits);
                let age = entry.age();
                return Ok((entry, Left::After(age)));
            }
            Hit::Failed => {
                count(&self.metrics.cache_hits);
                return Err(Failed::Unanswered);
            }
            Hit::Old(entry) if entry.failed_lately() => {
                count(&self.metrics.stale_answers);
                return Ok((entry, Left::Stale));
            }
            Hit::Old(entry) => Some(entry),
            Hit::None => None,
        };
        count(&self.metrics.cache_misses);
        if !question.recursion {
            return Err(Failed::Unwanted);
        }
        let _place = self.limits.enter(client).inspect_err(|_| {
            count(&self.metrics.refused_busy);
        })?;
        let flight = self.flight(asked, &known, client, old.clone());
        let outcome = match &old {
            Some(_) => tokio::time::timeout(PATIENCE, land(flight))
                .await
                .unwrap_or(Err(Failed::Unanswered)),
            None => land(flight).await,
        };
        match (outcome, old) {
            (Ok(entry), _) => {
                let age = entry.age();
                Ok((entry, Left::After(age)))
            }
            (Err(_), Some(entry)) => {
                count(&self.metrics.stale_answers);
                Ok((entry, Left::Stale))
            }
            (Err(failed), None) => Err(failed),
        }
    }

    /// The question's way to the servers and back: the one that is on its way, or a new one.
    fn flight(
        self: &Arc<Self>,
        asked: Asked,
        known: &Known,
        client: IpAddr,
        old: Option<Arc<Entry>>,
    ) -> Flight {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&asked) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        let servers = Arc::clone(known.servers(&asked.name));
        let order = servers.order(client);
        if order.is_empty() {
            if !servers.is_empty() {
                self.complain_of_loop(&asked.name, client);
            }
            landing.send_replace(Some(Err(Failed::Nobody)));
            return flight;
        }
        flights.insert(asked.clone(), flight.clone());
        drop(flights);
        let (own, keep) = (Arc::clone(self), known.routes.keep);
        tokio::spawn(async move {
            let _end = Ended {
                of: &own,
                asked: &asked,
            };
            let outcome = exchange::exchange(&asked, &servers, &order, &own.way, &own.metrics).await;
            let outcome = match outcome {
                Ok(packet) => Ok(own.cache.put(asked.clone(), packet, keep)),
                Err(()) => {
                    match old {
                        Some(entry) => entry.note_failure(),
                        None => own.cache.put_failure(asked.clone()),
                    }
                    Err(Failed::Unanswered)
                }
            };
            landing.send_replace(Some(outcome));
        });
        flight
    }

    /// A server that asks what it would be asked: names would go round in circles.
    fn complain_of_loop(&self, name: &Name, client: IpAddr) {
        if count(&self.metrics.loops) == 0 {
            tracing::warn!(
                %client, %name,
                "a server that names are asked for at asks for them here: a loop; change upstreams, or that server's settings"
            );
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Asked, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a flight when it has ended, however it did.
struct Ended<'a> {
    of: &'a Forwarder,
    asked: &'a Asked,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.of.flights().remove(self.asked);
    }
}

async fn land(mut flight: Flight) -> Outcome {
    match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(Failed::Unanswered)),
        // It broke off.
        Err(_) => Err(Failed::Unanswered),
    }
}
