//! From a question to what is said.
//!
//! ```text
//! question ─► names of people's own (ConfigMap) ─► the cluster's table ─┬─ found ──► answer
//!                                                                       ├─ alias ──► its target
//!                                                                       ├─ missing ► search list
//!                                                                       └─ not ours ► forward
//! ```

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;
use rand::seq::SliceRandom;

use crate::forward::{Entry, Failed, Forwarder};
use crate::metrics::{Gauges, Metrics, count};
use crate::search::{self, Searches};
use crate::settings::Settings;
use crate::table::{Found, SERVICE_LABELS, TTL, Table, address_data};
use crate::wire::{Answer, Left, Plain, Question, Zone, render};

/// An alias that leads to an alias … is followed as often.
const MOST_ALIASES: usize = 8;

/// Answers questions.
#[derive(Debug)]
pub struct Resolver {
    pub(crate) table: RwLock<Table>,
    pub(crate) searches: RwLock<Searches>,
    pub(crate) settings: ArcSwap<Settings>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the table holds the cluster's names.
    pub(crate) known: AtomicBool,
    /// Who may ask; everybody if there are none.
    clients: Vec<IpNet>,
}

/// What a client is told.
enum Said {
    Own(Answer),
    /// As another server put it.
    Passed(Arc<Entry>, Left),
}

/// What is known without asking others.
enum Own {
    Answer(Answer),
    Alias(Name),
    Missing(Box<Record>),
    Elsewhere,
    /// It's the cluster's, and the cluster's names aren't known yet.
    Unknown,
}

/// What is kept behind a lock is whole at any moment.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl Resolver {
    /// One that knows nothing of the cluster yet.
    pub fn new(table: Table, forwarder: Forwarder, clients: Vec<IpNet>, metrics: Arc<Metrics>) -> Resolver {
        Resolver {
            table: RwLock::new(table),
            searches: RwLock::default(),
            settings: ArcSwap::default(),
            forwarder: Arc::new(forwarder),
            metrics,
            known: AtomicBool::new(false),
            clients,
        }
    }

    /// Changes the table.
    pub fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the table.
    pub fn look<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&read(&self.table))
    }

    /// Changes what is known of pods' search lists.
    pub fn change_searches(&self, change: impl FnOnce(&mut Searches)) {
        change(&mut self.searches.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The table holds the cluster's names from now on. True if it didn't before.
    pub fn set_known(&self) -> bool {
        !self.known.swap(true, Ordering::Relaxed)
    }

    /// Whether the cluster's names are known.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// What is in force.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Who asks others.
    pub fn forwarder(&self) -> &Arc<Forwarder> {
        &self.forwarder
    }

    /// The numbers as text.
    pub fn metrics(&self) -> String {
        self.metrics.text(Gauges {
            remembered: self.forwarder.remembered(),
            ready: self.is_known(),
        })
    }

    /// Whether somebody of that address may ask.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.clients.is_empty()
            || client.is_loopback()
            || self.clients.iter().any(|net| net.contains(&client))
    }

    /// The reply to a question, at most `limit` bytes.
    pub async fn reply(self: Arc<Self>, question: Question, client: IpAddr, limit: usize) -> Vec<u8> {
        let client = client.to_canonical();
        if !self.admits(client) {
            count(&self.metrics.refused_clients);
            return render(&question, &Answer::failed(ResponseCode::Refused), limit);
        }
        match self.say(&question, client).await {
            Said::Own(answer) => render(&question, &answer, limit),
            Said::Passed(entry, left) => entry.packet.render(&question, left, limit),
        }
    }

    /// Writes the reply to what is asked most: the address of a Service. False if that isn't what is
    /// asked, or more has to be looked at: then [`Resolver::reply`] knows.
    pub fn reply_at_once(&self, bytes: &[u8], client: IpAddr, reply: &mut Vec<u8>) -> bool {
        let Some(question) = Plain::read(bytes) else {
            return false;
        };
        // Names of people's own come first.
        if !self.is_known() || !self.settings.load().hosts.is_empty() || !self.admits(client) {
            return false;
        }
        let table = read(&self.table);
        let Some(addresses) = table.service_addresses(&question.labels) else {
            return false;
        };
        let zone = Zone {
            below: SERVICE_LABELS,
            serial: table.serial(),
        };
        let done = question.render(addresses, zone, reply);
        if done {
            count(&self.metrics.cluster_answers);
        }
        done
    }

    async fn say(&self, question: &Question, client: IpAddr) -> Said {
        let answer = match self.own(&question.name, question.kind) {
            Own::Answer(answer) => answer,
            Own::Alias(target) => self.follow(question, target, client).await,
            Own::Missing(soa) => match self.complete(question, client).await {
                Some(answer) => answer,
                None => missing(*soa),
            },
            Own::Unknown => Answer::failed(ResponseCode::ServFail),
            Own::Elsewhere => match self.forwarder.ask(question, client).await {
                Ok((entry, left)) => return Said::Passed(entry, left),
                Err(failed) => failure(failed),
            },
        };
        Said::Own(answer)
    }

    /// What the cluster, people's own names and the standards say.
    fn own(&self, name: &Name, kind: RecordType) -> Own {
        let settings = self.settings.load();
        if !settings.hosts.is_empty()
            && let Some(addresses) = settings.hosts.get(&name.to_lowercase())
        {
            return own_addresses(name, kind, addresses);
        }
        if name.is_localhost() {
            let both = [
                IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
                IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ];
            return own_addresses(name, kind, &both);
        }
        let found = read(&self.table).lookup(name, kind);
        if matches!(found, Found::Elsewhere) {
            return Own::Elsewhere;
        }
        if !self.is_known() {
            return Own::Unknown;
        }
        count(&self.metrics.cluster_answers);
        match found {
            Found::Here(here) => {
                let mut data = here.data;
                if data.len() > 1 {
                    // Most clients take the first.
                    data.shuffle(&mut rand::rng());
                }
                let answers = data.into_iter();
                Own::Answer(Answer {
                    authoritative: true,
                    answers: answers
                        .map(|data| Record::from_rdata(name.clone(), TTL, data))
                        .collect(),
                    authorities: here.soa.map(|soa| *soa).into_iter().collect(),
                    more: here.more,
                    ..Answer::default()
                })
            }
            Found::Alias(target) => Own::Alias(target),
            Found::Missing(soa) => Own::Missing(soa),
            Found::Elsewhere => Own::Elsewhere,
        }
    }

    /// The alias that a name is, and where it leads.
    async fn follow(&self, question: &Question, target: Name, client: IpAddr) -> Answer {
        let mut aliases = vec![alias(question.name.clone(), target.clone(), TTL)];
        if question.kind == RecordType::CNAME {
            return Answer {
                authoritative: true,
                answers: aliases,
                ..Answer::default()
            };
        }
        let mut target = target;
        while aliases.len() < MOST_ALIASES {
            let mut answer = match self.own(&target, question.kind) {
                Own::Alias(next) => {
                    aliases.push(alias(target, next.clone(), TTL));
                    target = next;
                    continue;
                }
                Own::Answer(answer) => answer,
                Own::Missing(soa) => missing(*soa),
                Own::Unknown => Answer::failed(ResponseCode::ServFail),
                Own::Elsewhere => self.forwarded(&question.about(target), client).await,
            };
            if matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain) {
                answer.answers.splice(0..0, aliases);
            }
            return answer;
        }
        tracing::debug!(name = %question.name, "an alias leads in circles");
        Answer::failed(ResponseCode::ServFail)
    }

    /// What others say, as an answer of our own.
    async fn forwarded(&self, question: &Question, client: IpAddr) -> Answer {
        match self.forwarder.ask(question, client).await {
            Ok((entry, left)) => match entry.packet.records(left) {
                Some((answers, authorities)) => Answer {
                    code: entry.packet.code(),
                    answers,
                    authorities,
                    ..Answer::default()
                },
                None => Answer::failed(ResponseCode::ServFail),
            },
            Err(failed) => failure(failed),
        }
    }

    /// Goes through the client's search list, if the question is the first of it. None if nothing
    /// is found, or others who would have to know don't answer: then what was asked for is missing,
    /// which is true, and the client goes on by itself.
    async fn complete(&self, question: &Question, client: IpAddr) -> Option<Answer> {
        if !self.settings.load().search_completion {
            return None;
        }
        let list = read(&self.searches).of(client)?;
        let domain = self.look(|table| table.domain().clone());
        let candidates = search::candidates(&question.name, &list, &domain);
        if candidates.is_empty() {
            return None;
        }
        for name in candidates {
            let about = question.about(name.clone());
            let mut answer = match self.own(&name, question.kind) {
                Own::Answer(answer) => answer,
                Own::Alias(target) => self.follow(&about, target, client).await,
                Own::Missing(_) => continue,
                Own::Unknown => return None,
                Own::Elsewhere => self.forwarded(&about, client).await,
            };
            match answer.code {
                ResponseCode::NoError => {}
                ResponseCode::NXDomain if answer.answers.is_empty() => continue,
                ResponseCode::NXDomain => {}
                _ => return None,
            }
            count(&self.metrics.completions);
            let ttl = answer
                .answers
                .iter()
                .map(|record| record.ttl)
                .min()
                .unwrap_or(TTL);
            answer.answers.insert(0, alias(question.name.clone(), name, ttl));
            answer.authoritative = false;
            return Some(answer);
        }
        None
    }
}

fn own_addresses(name: &Name, kind: RecordType, addresses: &[IpAddr]) -> Own {
    let data = address_data(addresses.iter().copied(), kind);
    let answers = data
        .into_iter()
        .map(|data| Record::from_rdata(name.clone(), TTL, data));
    Own::Answer(Answer {
        authoritative: true,
        answers: answers.collect(),
        ..Answer::default()
    })
}

fn alias(name: Name, target: Name, ttl: u32) -> Record {
    Record::from_rdata(name, ttl, RData::CNAME(CNAME(target)))
}

fn missing(soa: Record) -> Answer {
    Answer {
        code: ResponseCode::NXDomain,
        authoritative: true,
        authorities: vec![soa],
        ..Answer::default()
    }
}

fn failure(failed: Failed) -> Answer {
    Answer::failed(match failed {
        Failed::Busy | Failed::Unwanted => ResponseCode::Refused,
        Failed::Nobody | Failed::Unanswered => ResponseCode::ServFail,
    })
}
