//! What this node knows, and what follows from it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use tokio::time::Instant;

use crate::EXPIRE;
use crate::alive::Alive;
use crate::endpoints::Ready;
use crate::service::{self, Balanced};
use crate::table::{Candidate, announcer};

/// A Service, by namespace and name.
pub(crate) type Name = (String, String);

/// What this node knows.
#[derive(Debug)]
pub(crate) struct State {
    node: String,
    pub(crate) alive: Alive,
    pub(crate) services: BTreeMap<Name, Balanced>,
    /// Of Services whose traffic stays local.
    pub(crate) endpoints: BTreeMap<Name, Ready>,
    /// Whether Leases and Services have been listed.
    pub(crate) leases_listed: bool,
    pub(crate) services_listed: bool,
    /// Whether this node may announce; `None` as long as its Node isn't known.
    pub(crate) may: Option<bool>,
    /// When this node's own Lease was renewed.
    renewed: Option<Instant>,
    /// What this node announces.
    announced: BTreeMap<Name, Vec<IpAddr>>,
    /// What was told last, of which state of the Service.
    told: BTreeMap<Name, (Option<String>, Instant)>,
}

/// What follows.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// The addresses that this node announces.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Services of which the API is to say who announces them, or why nobody does.
    pub(crate) tell: Vec<(Name, Word)>,
    /// Services that this node announced, and that have nothing to announce any more.
    pub(crate) gone: Vec<Name>,
}

/// What is to be told of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// This node announces it.
    Announced(String),
    /// Nobody does.
    Nobody(&'static str),
}

const NO_ENDPOINT: &str = "no node that may announce it has a ready endpoint";
const NO_NODE: &str =
    "no node may announce it: all have the label node.kubernetes.io/exclude-from-external-load-balancers";

impl State {
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            alive: Alive::default(),
            services: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            leases_listed: false,
            services_listed: false,
            may: None,
            renewed: None,
            announced: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// The Service, if nothing has been told of this state of it, or a while ago: that may have failed.
    pub(crate) fn untold(&mut self, name: &Name, now: Instant) -> Option<Service> {
        let service = self.services.get(name)?.object.clone();
        let version = service.metadata.resource_version.clone();
        match self.told.get(name) {
            Some((told, at)) if *told == version && now < *at + EXPIRE => return None,
            _ => {}
        }
        self.told.insert(name.clone(), (version, now));
        Some(service)
    }

    /// This node's own Lease was renewed: the API answers.
    pub(crate) fn renewed(&mut self, now: Instant) {
        if !self.hears(now) {
            self.alive.excuse(now);
        }
        self.renewed = Some(now);
    }

    fn hears(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|at| now < at + EXPIRE)
    }

    /// Decides; `None` as long as too little is known, or the API is away: then everything stays.
    pub(crate) fn decide(&mut self, now: Instant) -> Option<Decision> {
        let may = self.may?;
        if !self.leases_listed || !self.services_listed || !(self.services.is_empty() || self.hears(now)) {
            return None;
        }
        let (candidates, teller) = self.nodes(may, now);
        let mut decision = Decision::default();
        let before = std::mem::take(&mut self.announced);
        for (name, service) in &self.services {
            let Some(candidate) = self.candidate(name, service) else {
                // Its endpoints aren't known yet.
                if let Some(addresses) = before.get(name) {
                    self.announced.insert(name.clone(), addresses.clone());
                }
                continue;
            };
            let chosen = announcer(&candidate, &candidates);
            if chosen == Some(&self.node) && !candidate.addresses.is_empty() {
                let word = Word::Announced(service::message(&self.node, &candidate.addresses));
                if !is_told(service, &word) {
                    decision.tell.push((name.clone(), word));
                }
                self.announced.insert(name.clone(), candidate.addresses);
            } else if chosen.is_none() && teller && !candidate.addresses.is_empty() {
                let word = Word::Nobody(if candidates.is_empty() {
                    NO_NODE
                } else {
                    NO_ENDPOINT
                });
                if !is_told(service, &word) {
                    decision.tell.push((name.clone(), word));
                }
            }
        }
        self.told.retain(|name, _| self.services.contains_key(name));
        decision.gone = before
            .into_keys()
            .filter(|name| {
                let service = self.services.get(name);
                service.is_none_or(|service| service.addresses.is_empty())
            })
            .collect();
        decision.addresses = self.announced.values().flatten().copied().collect();
        Some(decision)
    }

    /// The nodes that may announce, and whether it is this one that says so when nobody does.
    fn nodes(&self, may: bool, now: Instant) -> (BTreeSet<String>, bool) {
        let mut alive = self.alive.nodes(now);
        alive.insert(self.node.clone());
        let teller = alive.first() == Some(&self.node);
        alive.retain(|node| match *node == self.node {
            true => may,
            false => self.alive.may(node),
        });
        (alive, teller)
    }

    fn candidate(&self, name: &Name, service: &Balanced) -> Option<Candidate> {
        let only = if service.local {
            Some(self.endpoints.get(name)?.nodes.clone())
        } else {
            None
        };
        Some(Candidate {
            namespace: name.0.clone(),
            name: name.1.clone(),
            addresses: service.addresses.clone(),
            current: service.current.clone(),
            only,
        })
    }
}

fn is_told(service: &Balanced, word: &Word) -> bool {
    let (told, message) = match word {
        Word::Announced(message) => ("True", message.as_str()),
        Word::Nobody(message) => ("False", *message),
    };
    let status = service.object.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| {
        condition.type_ == crate::CONDITION && condition.status == told && condition.message == message
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    const NAME: (&str, &str) = ("default", "web");

    fn name() -> Name {
        (NAME.0.to_owned(), NAME.1.to_owned())
    }

    fn service(current: Option<&str>, local: bool) -> Balanced {
        let address = "172.30.0.200".parse().unwrap();
        let conditions: Vec<Value> = current
            .map(|node| {
                json!({ "type": crate::CONDITION, "status": "True", "reason": "Announced",
                "message": service::message(node, &[address]), "lastTransitionTime": "2026-01-01T00:00:00Z" })
            })
            .into_iter()
            .collect();
        let object: Service = serde_json::from_value(json!({
            "metadata": { "namespace": NAME.0, "name": NAME.1 },
            "spec": { "type": "LoadBalancer", "externalTrafficPolicy": if local { "Local" } else { "Cluster" } },
            "status": { "loadBalancer": { "ingress": [{ "ip": address }] }, "conditions": conditions },
        }))
        .unwrap();
        Balanced::of(object).unwrap()
    }

    fn state(current: Option<&str>, now: Instant) -> State {
        let mut state = State::new("b");
        (state.leases_listed, state.services_listed, state.may) = (true, true, Some(true));
        state.alive.observe("a", "1", now);
        state.services.insert(name(), service(current, false));
        state
    }

    fn announces(decision: Option<Decision>) -> bool {
        !decision.unwrap().addresses.is_empty()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_nodes_addresses_are_taken_over_in_time() {
        let start = Instant::now();
        let mut state = state(Some("a"), start);
        state.renewed(start);
        assert!(!announces(state.decide(start)));
        let later = start + Duration::from_millis(1999);
        state.renewed(start + Duration::from_millis(1500));
        assert!(!announces(state.decide(later)));
        let decision = state.decide(start + EXPIRE).unwrap();
        assert_eq!(decision.addresses.len(), 1);
        assert_eq!(
            decision.tell,
            [(name(), Word::Announced("b announces 172.30.0.200".to_owned()))]
        );
        // The other is back, and it is told by now who announces.
        state.services.insert(name(), service(Some("b"), false));
        state.alive.observe("a", "2", start + EXPIRE);
        let decision = state.decide(start + EXPIRE).unwrap();
        assert_eq!((decision.addresses.len(), decision.tell.len()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_api_is_away_everything_stays() {
        let start = Instant::now();
        let mut state = state(Some("b"), start);
        assert_eq!(state.decide(start), None, "nothing is known of the API yet");
        state.renewed(start);
        assert!(announces(state.decide(start)));
        let away = start + Duration::from_secs(60);
        assert_eq!(state.decide(away), None);
        // Others couldn't be heard either: they aren't dead.
        state.renewed(away);
        state.services.insert(name(), service(Some("a"), false));
        assert!(!announces(state.decide(away)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_local_endpoint_nobody_announces_and_it_is_told() {
        let start = Instant::now();
        let mut state = state(Some("b"), start);
        state.renewed(start);
        state.services.insert(name(), service(Some("b"), true));
        assert_eq!(
            state.decide(start).unwrap().tell,
            [],
            "its endpoints aren't known yet"
        );
        let nodes = |nodes: &[&str]| Ready {
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            local: nodes.len(),
        };
        state.endpoints.insert(name(), nodes(&["b"]));
        assert!(announces(state.decide(start)));
        state.endpoints.insert(name(), nodes(&[]));
        let decision = state.decide(start).unwrap();
        assert_eq!(
            (decision.addresses.len(), decision.tell),
            (0, vec![]),
            "the first of the nodes tells it, and that is another"
        );
        state.alive.forget("a");
        let decision = state.decide(start).unwrap();
        assert_eq!(decision.tell, [(name(), Word::Nobody(NO_ENDPOINT))]);
        state.alive.observe("a", "1", start);
        state.endpoints.insert(name(), nodes(&["a"]));
        assert!(!announces(state.decide(start)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_may_not_announce_leaves_it_to_others() {
        let start = Instant::now();
        let mut state = state(Some("b"), start);
        state.renewed(start);
        assert!(announces(state.decide(start)));
        state.may = Some(false);
        let decision = state.decide(start).unwrap();
        assert_eq!((decision.addresses.len(), decision.tell), (0, vec![]));
        // The other may not, either, and then it may.
        state.may = Some(true);
        state.services.insert(name(), service(Some("a"), false));
        assert!(!announces(state.decide(start)));
        state.alive.resign("a");
        assert!(announces(state.decide(start)));
        state.may = Some(false);
        state.alive.forget("a");
        let decision = state.decide(start).unwrap();
        assert_eq!(
            (decision.addresses.len(), decision.tell),
            (0, vec![(name(), Word::Nobody(NO_NODE))])
        );
        state.may = None;
        assert_eq!(state.decide(start), None, "it isn't known whether it may");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_without_an_address_any_more_is_withdrawn() {
        let start = Instant::now();
        let mut state = state(Some("b"), start);
        state.renewed(start);
        assert!(announces(state.decide(start)));
        state.services.get_mut(&name()).unwrap().addresses.clear();
        let decision = state.decide(start).unwrap();
        assert_eq!((decision.addresses.len(), decision.gone), (0, vec![name()]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_gone_is_withdrawn() {
        let start = Instant::now();
        let mut state = state(Some("b"), start);
        state.renewed(start);
        assert!(announces(state.decide(start)));
        state.services.clear();
        let decision = state.decide(start).unwrap();
        assert_eq!((decision.addresses.len(), decision.gone), (0, vec![name()]));
    }
}
