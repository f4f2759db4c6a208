//! What a pod asks Services by HTTP, and how the answers are judged.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::make::{Made, PORT, Services};
use crate::ask::{families, family};
use crate::lab::{Answer, Lab, Place, Spot};

pub(super) const ADDRESS: &str = "Service, its address";
pub(super) const SPREAD: &str = "Service, spread over pods";
pub(super) const NODE_PORT: &str = "Service, port of a node";
pub(super) const BALANCER: &str = "Service, load balancer";
pub(super) const ITSELF: &str = "Service, back to the asker";
pub(super) const NOWHERE: &str = "Service without endpoints";

/// Requests for each pod that a Service leads to: that one of a few is left out by chance is once in
/// some ten thousand rounds, and there are several.
const TRIES: usize = 12;
/// How the toolbox says that it was refused.
const REFUSED: u8 = 4;

/// One thing that is asked, by one or more requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) check: &'static str,
    pub(super) path: String,
    /// Which of the requests belong to it.
    pub(super) urls: Range<usize>,
    wanted: Wanted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// An answer to a client that is seen as itself.
    Own,
    /// An answer.
    Any,
    /// Answers of all of these.
    Everybody(BTreeSet<String>),
    /// An answer of the asker.
    Itself,
    /// A refusal.
    Refusal,
}

/// All that a pod asks.
#[derive(Debug, Default)]
pub(super) struct Questions {
    pub(super) urls: Vec<String>,
    pub(super) all: Vec<Question>,
}

impl Questions {
    /// What that pod asks; the first pod also asks for itself.
    pub(super) fn of(lab: &Lab, services: &Services, from: &Spot) -> Self {
        let mut questions = Self::default();
        let pods = pods(lab);
        for address in families(from, &services.all.addresses) {
            let path = path(from, "all pods", address);
            let urls = questions.add(
                ADDRESS,
                path.clone(),
                address,
                PORT,
                TRIES * pods.len(),
                Wanted::Own,
            );
            questions.all.push(Question {
                check: SPREAD,
                path,
                urls,
                wanted: Wanted::Everybody(pods.clone()),
            });
        }
        questions.every_way(lab, &services.all, from, &Wanted::Any, [NODE_PORT, BALANCER]);
        for address in families(from, &services.nowhere.addresses) {
            let path = path(from, "nobody", address);
            questions.add(NOWHERE, path, address, PORT, 1, Wanted::Refusal);
        }
        if from.pod == "pod-0" {
            for address in families(from, &services.first.addresses) {
                let path = path(from, "its address", address);
                questions.add(ITSELF, path, address, PORT, 1, Wanted::Itself);
            }
            questions.every_way(lab, &services.first, from, &Wanted::Itself, [ITSELF, ITSELF]);
        }
        questions
    }

    /// A port of every node, and load balancers' addresses.
    fn every_way(&mut self, lab: &Lab, made: &Made, from: &Spot, wanted: &Wanted, checks: [&'static str; 2]) {
        if let Some(port) = made.node_port {
            for Place { node, addresses, .. } in &lab.places {
                for address in families(from, addresses) {
                    let path = path(from, &format!("{node}'s port"), address);
                    self.add(checks[0], path, address, port, 1, wanted.clone());
                }
            }
        }
        for address in families(from, &made.balancers) {
            let path = path(from, "load balancer", address);
            self.add(checks[1], path, address, PORT, 1, wanted.clone());
        }
    }

    fn add(
        &mut self,
        check: &'static str,
        path: String,
        address: IpAddr,
        port: u16,
        count: usize,
        wanted: Wanted,
    ) -> Range<usize> {
        let begin = self.urls.len();
        let url = format!("http://{}/", SocketAddr::new(address, port));
        self.urls.extend(std::iter::repeat_n(url, count));
        let urls = begin..self.urls.len();
        self.all.push(Question {
            check,
            path,
            urls: urls.clone(),
            wanted,
        });
        urls
    }
}

/// The pods that Services lead to.
pub(super) fn pods(lab: &Lab) -> BTreeSet<String> {
    let pods = lab.places.iter().flat_map(|place| [&place.pod, &place.neighbour]);
    pods.flatten().map(|spot| spot.pod.clone()).collect()
}

fn path(from: &Spot, to: &str, address: IpAddr) -> String {
    format!("{} → {to}{}", from.node, family(address))
}

impl Question {
    /// What was seen, or what is wrong with it.
    pub(super) fn judge(&self, from: &Spot, answers: &[Answer]) -> Result<String, String> {
        let slowest = answers.iter().map(|answer| answer.ms).fold(0.0, f64::max);
        if self.wanted == Wanted::Refusal {
            return match answers.first() {
                Some(Answer {
                    code: Some(REFUSED),
                    ms,
                    ..
                }) => Ok(format!("refused at once, {ms:.1} ms")),
                Some(Answer {
                    error: Some(error), ..
                }) => Err(format!("not refused: {error}")),
                _ => Err("answered".to_owned()),
            };
        }
        let mut seen = Vec::new();
        for answer in answers {
            seen.push(answer.seen()?);
        }
        let by: BTreeSet<&str> = answers
            .iter()
            .map(|answer| answer.body["hostname"].as_str().unwrap_or("nobody"))
            .collect();
        let count = answers.len();
        match &self.wanted {
            Wanted::Own => match seen.iter().find(|seen| !from.addresses.contains(seen)) {
                None => Ok(format!(
                    "{count} requests, seen as itself; {slowest:.1} ms at most"
                )),
                Some(other) => Err(format!(
                    "translated on the way: {:?} was seen as {other}",
                    from.addresses
                )),
            },
            Wanted::Everybody(pods) => match pods.iter().find(|pod| !by.contains(pod.as_str())) {
                None => Ok(format!("{count} requests, answered by {} pods", by.len())),
                Some(missing) => Err(format!(
                    "none of {count} requests came to {missing}, but to {by:?}"
                )),
            },
            Wanted::Itself if by.iter().all(|pod| *pod == from.pod) => Ok(format!("{slowest:.1} ms")),
            Wanted::Itself => Err(format!("answered by {by:?}, not by {}", from.pod)),
            Wanted::Any | Wanted::Refusal => Ok(format!("{slowest:.1} ms")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{lab, works};
    use serde_json::{Value, json};

    fn made(last: u8) -> Made {
        Made {
            addresses: vec![[10, 96, 0, last].into()],
            node_port: Some(30_000 + u16::from(last)),
            balancers: vec![[172, 30, 0, 200 + last].into()],
        }
    }

    fn services() -> Services {
        Services {
            all: made(1),
            first: made(2),
            nowhere: made(3),
            ..Services::default()
        }
    }

    fn answers(all: &[Value]) -> Vec<Answer> {
        let read = |answer: &Value| serde_json::from_value(answer.clone()).unwrap();
        all.iter().map(read).collect()
    }

    fn by(pod: &str, client: &str) -> Value {
        json!({"status": 200, "ms": 0.4, "body": {"client_ip": client, "hostname": pod}})
    }

    #[test]
    fn every_pod_asks_in_every_way_and_the_first_for_itself() {
        let lab = lab(2, works());
        let first = lab.places[0].pod.clone().unwrap();
        let questions = Questions::of(&lab, &services(), &first);
        let count = |check| questions.all.iter().filter(|one| one.check == check).count();
        let counts = [ADDRESS, SPREAD, NODE_PORT, BALANCER, ITSELF, NOWHERE].map(count);
        assert_eq!(counts, [1, 1, 2, 1, 4, 1]);
        // Three pods: two and a neighbour.
        assert_eq!(questions.all[0].urls.len(), 3 * TRIES);
        assert_eq!(questions.all.last().unwrap().urls.end, questions.urls.len());
        let second = lab.places[1].pod.clone().unwrap();
        assert!(
            Questions::of(&lab, &services(), &second)
                .all
                .iter()
                .all(|one| one.check != ITSELF)
        );
    }

    #[test]
    fn answers_are_judged_by_what_is_wanted() {
        let lab = lab(1, works());
        let from = lab.places[0].pod.clone().unwrap();
        let verdict = |wanted, all: Vec<Value>| {
            let question = Question {
                check: ADDRESS,
                path: String::new(),
                urls: 0..all.len(),
                wanted,
            };
            question.judge(&from, &answers(&all))
        };
        let own = by("pod-0", "10.244.0.0");
        assert!(verdict(Wanted::Own, vec![own.clone()]).is_ok());
        let other = by("neighbour-9", "172.30.0.10");
        let cause = verdict(Wanted::Own, vec![own.clone(), other.clone()]).unwrap_err();
        assert!(cause.contains("seen as 172.30.0.10"), "{cause}");
        assert!(verdict(Wanted::Any, vec![other.clone()]).is_ok());
        assert!(verdict(Wanted::Everybody(pods(&lab)), vec![own.clone(), other.clone()]).is_ok());
        let cause = verdict(Wanted::Everybody(pods(&lab)), vec![own.clone(), own.clone()]).unwrap_err();
        assert!(cause.contains("came to neighbour-9"), "{cause}");
        assert!(verdict(Wanted::Itself, vec![own.clone()]).is_ok());
        assert!(verdict(Wanted::Itself, vec![other]).is_err());
        let refused = json!({"ms": 0.1, "error": "refused", "code": 4});
        assert!(verdict(Wanted::Refusal, vec![refused.clone()]).is_ok());
        assert!(verdict(Wanted::Own, vec![own.clone(), refused]).is_err());
        let late = json!({"ms": 3000.0, "error": "timed out", "code": 5});
        assert_eq!(
            verdict(Wanted::Refusal, vec![late]).unwrap_err(),
            "not refused: timed out"
        );
        assert!(verdict(Wanted::Refusal, vec![own]).is_err());
    }
}
