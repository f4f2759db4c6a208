//! Follows the API, and tells the agent what to announce.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::pin;

use futures::StreamExt;
use go_json::Read;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::endpoints::{self, Ready};
use crate::health::{Answer, Ports};
use crate::lease::{self, Duty};
use crate::service::Balanced;
use crate::state::{Name, State};
use crate::tell::Teller;
use crate::{EXCLUDE, EXPIRE, LABEL};

/// The addresses that this node announces; none as long as nothing is decided.
pub type Wanted = watch::Sender<Option<BTreeSet<IpAddr>>>;

/// What announcing needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's name.
    pub node: String,
}

/// The nodes whose kernels answer.
pub type Answering = watch::Receiver<BTreeSet<String>>;

/// Decides until `shutdown`; what was decided last stays.
pub async fn run(
    settings: Settings,
    client: Client,
    wanted: Wanted,
    answering: Answering,
    shutdown: CancellationToken,
) {
    let (news, heard) = mpsc::unbounded_channel();
    let (duty, todays) = watch::channel(Duty::None);
    let (renewals, renewed) = watch::channel(None);
    let node = settings.node.clone();
    tokio::spawn(lease::keep(
        client.clone(),
        node,
        todays,
        renewals,
        shutdown.clone(),
    ));
    let announcer = Announcer {
        state: State::new(&settings.node),
        teller: Teller::new(client.clone(), &settings.node),
        node: settings.node,
        client,
        wanted,
        duty,
        news,
        local: BTreeMap::new(),
        ports: Ports::default(),
    };
    announcer.run(heard, renewed, answering, shutdown).await;
}

struct Announcer {
    state: State,
    teller: Teller,
    node: String,
    client: Client,
    wanted: Wanted,
    /// What this node's Lease is for.
    duty: watch::Sender<Duty>,
    news: mpsc::UnboundedSender<(Name, Ready)>,
    /// The watches of endpoints.
    local: BTreeMap<Name, DropGuard>,
    ports: Ports,
}

impl Announcer {
    async fn run(
        mut self,
        mut heard: mpsc::UnboundedReceiver<(Name, Ready)>,
        mut renewed: watch::Receiver<Option<Instant>>,
        mut answering: Answering,
        shutdown: CancellationToken,
    ) {
        let balanced = watcher::Config::default().fields("spec.type=LoadBalancer");
        let services = watcher::watcher(Api::<Read<Service>>::all(self.client.clone()), balanced);
        let labelled = watcher::Config::default().labels(LABEL);
        let leases = watcher::watcher(lease::api(&self.client), labelled);
        let own = watcher::Config::default().fields(&format!("metadata.name={}", self.node));
        let own = watcher::watcher(Api::<Node>::all(self.client.clone()), own);
        let (mut services, mut leases) = (pin!(services.default_backoff()), pin!(leases.default_backoff()));
        let mut own = pin!(own.default_backoff());
        let (mut all_services, mut all_leases) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let now = Instant::now();
            self.state.alive.hear(&answering.borrow_and_update());
            self.decide(now);
            let next = self.state.alive.next_end(now).unwrap_or(now + EXPIRE);
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = services.next() => match event {
                    Some(Ok(event)) => self.service(event, &mut all_services),
                    Some(Err(error)) => debug!(%error, "watching Services"),
                    None => return,
                },
                event = leases.next() => match event {
                    Some(Ok(event)) => self.lease(event, &mut all_leases),
                    Some(Err(error)) => debug!(%error, "watching announcers' Leases"),
                    None => return,
                },
                event = own.next() => match event {
                    Some(Ok(event)) => self.own_node(event),
                    Some(Err(error)) => debug!(%error, "watching this node"),
                    None => return,
                },
                news = heard.recv() => if let Some((name, ready)) = news {
                    self.state.endpoints.insert(name, ready);
                },
                changed = renewed.changed() => match changed {
                    Ok(()) => if let Some(at) = *renewed.borrow_and_update() { self.state.renewed(at) },
                    Err(_) => return,
                },
                // If nobody listens to them any more the agent is ending.
                changed = answering.changed() => if changed.is_err() { return },
                () = sleep_until(next) => {}
            }
        }
    }

    fn service(&mut self, event: Event<Read<Service>>, listed: &mut BTreeSet<Name>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(Read(service)) => {
                listed.insert(name(&service));
                self.take(service);
            }
            Event::InitDone => {
                self.state.services.retain(|name, _| listed.contains(name));
                self.state.services_listed = true;
            }
            Event::Apply(Read(service)) => self.take(service),
            Event::Delete(Read(service)) => {
                self.state.services.remove(&name(&service));
            }
        }
    }

    fn take(&mut self, service: Service) {
        let name = name(&service);
        match Balanced::of(service) {
            Some(balanced) => self.state.services.insert(name, balanced),
            None => self.state.services.remove(&name),
        };
    }

    /// Whether this node may announce; one that the API doesn't know (yet) may.
    fn own_node(&mut self, event: Event<Node>) {
        match event {
            Event::Init => {}
            Event::InitApply(node) | Event::Apply(node) => {
                let labels = node.metadata.labels.unwrap_or_default();
                self.state.may = Some(!labels.contains_key(EXCLUDE));
            }
            Event::InitDone => {
                self.state.may.get_or_insert(true);
            }
            Event::Delete(_) => self.state.may = Some(true),
        }
    }

    fn lease(&mut self, event: Event<Lease>, listed: &mut BTreeSet<String>) {
        let now = Instant::now();
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(lease) | Event::Apply(lease) => {
                let Some((node, announces)) = lease::of(&lease) else {
                    return;
                };
                listed.insert(node.to_owned());
                let alive = &mut self.state.alive;
                let renewal = lease.metadata.resource_version.as_deref().unwrap_or_default();
                alive.observe(node, renewal, now);
                if announces {
                    alive.rejoin(node);
                } else {
                    alive.resign(node);
                }
            }
            Event::InitDone => {
                self.state.alive.retain(listed);
                self.state.leases_listed = true;
            }
            Event::Delete(lease) => {
                if let Some((node, _)) = lease::of(&lease) {
                    self.state.alive.forget(node);
                }
            }
        }
    }

    fn decide(&mut self, now: Instant) {
        let today = match self.state.may {
            Some(may) if !self.state.services.is_empty() => {
                if may {
                    Duty::Announce
                } else {
                    Duty::Watch
                }
            }
            _ => Duty::None,
        };
        self.duty
            .send_if_modified(|duty| std::mem::replace(duty, today) != today);
        self.follow_endpoints();
        self.answer();
        let Some(decision) = self.state.decide(now) else {
            return;
        };
        self.wanted.send_if_modified(|wanted| {
            let new = Some(decision.addresses);
            let changed = *wanted != new;
            *wanted = new;
            changed
        });
        for (name, word) in decision.tell {
            if let Some(service) = self.state.untold(&name, now) {
                let teller = self.teller.clone();
                tokio::spawn(async move { teller.tell(service, word).await });
            }
        }
        for name in decision.gone {
            let teller = self.teller.clone();
            tokio::spawn(async move { teller.withdraw(name).await });
        }
    }

    /// Watches the endpoints of those whose traffic stays local, and of no others.
    fn follow_endpoints(&mut self) {
        let services = &self.state.services;
        let is_local = |name: &Name| services.get(name).is_some_and(|service| service.local);
        self.local.retain(|name, _| is_local(name));
        self.state.endpoints.retain(|name, _| is_local(name));
        for name in services.keys().filter(|name| is_local(name)) {
            if !self.local.contains_key(name) {
                let stop = CancellationToken::new();
                let (client, node, news) = (self.client.clone(), self.node.clone(), self.news.clone());
                tokio::spawn(endpoints::follow(client, node, name.clone(), news, stop.clone()));
                self.local.insert(name.clone(), stop.drop_guard());
            }
        }
    }

    fn answer(&mut self) {
        let asked = self.state.services.iter().filter_map(|(name, service)| {
            let local = self.state.endpoints.get(name)?.local;
            let service_name = name.clone();
            Some((
                service.health_port?,
                Answer {
                    service: service_name,
                    local,
                },
            ))
        });
        self.ports.set(asked.collect());
    }
}

fn name(service: &Service) -> Name {
    let meta = service.meta();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&meta.namespace), text(&meta.name))
}
