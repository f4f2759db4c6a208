//! `ripstop trace`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use model::{NamespacedName, Packet, ServiceName, Transport};
use plan::{Denial, Hop, Passed, PolicyPlan, Question, Trace, Verdict};
use serde_json::{Value, json};

use crate::args::{self, Output};
use crate::explain::{self, Names, Place, What, World};
use crate::failure::Failure;
use crate::output::{note, out};

/// What one address of the destination comes to.
struct Answer {
    trace: Trace,
    /// The Service's other endpoints that come to something else.
    others: Vec<(SocketAddr, Option<NamespacedName>, Trace)>,
}

pub(crate) async fn run(args: args::Trace) -> Result<(), Failure> {
    let world = explain::world(&args.source).await?;
    let names = Names {
        world: &world,
        namespace: &args.source.namespace,
    };
    let (from, to) = (names.find(&args.from)?, names.find(&args.to)?);
    let transport = names.transport(&to, args.port.as_ref())?;
    let answers = answers(&world, &from, &to, transport);
    if answers.is_empty() {
        let what = format!("{} and {} have no address of the same family", from.name, to.name);
        return Err(Failure::usage(
            what,
            "`kubectl get pods,services -o wide` shows their addresses",
        ));
    }
    let passes = answers.iter().all(Answer::passes);
    match args.output {
        Output::Table => print(&world, &answers),
        Output::Json => out!("{:#}", json(&world, (&args.from, &args.to), &answers, passes)),
    }
    if passes { Ok(()) } else { Err(Failure::silent()) }
}

/// What is told of packets between two places, as JSON.
pub(crate) fn told(world: &World, from: &Place, to: &Place, transport: Transport) -> Value {
    let answers = answers(world, from, to, transport);
    let passes = answers.iter().all(Answer::passes);
    json(world, (&from.name, &to.name), &answers, passes)
}

/// A packet of each family that both have.
fn answers(world: &World, from: &Place, to: &Place, transport: Transport) -> Vec<Answer> {
    let mut policies = BTreeMap::new();
    let mut answers = Vec::new();
    for source in &from.addresses {
        let like = to
            .addresses
            .iter()
            .find(|address| address.is_ipv4() == source.is_ipv4());
        let Some(destination) = like else {
            continue;
        };
        let packet = Packet {
            source: *source,
            destination: *destination,
            transport,
        };
        answers.push(answer(world, to, &packet, &mut policies));
    }
    answers
}

fn answer(world: &World, to: &Place, packet: &Packet, policies: &mut BTreeMap<String, PolicyPlan>) -> Answer {
    let trace = world.trace(packet, policies);
    let mut others = Vec::new();
    let service = match &to.what {
        What::Service(name) => ServiceName::new(name.namespace.as_str(), name.name.as_str()),
        _ => return Answer { trace, others },
    };
    let taken = trace.hops.iter().find_map(|hop| match hop {
        plan::Hop::Service { to, .. } => Some(*to),
        _ => None,
    });
    for backend in world.backends(&service, packet) {
        if Some(backend) == taken {
            continue;
        }
        let direct = Packet {
            destination: backend.ip(),
            transport: packet.transport.to_port(backend.port()),
            ..*packet
        };
        let other = world.trace(&direct, policies);
        if passes(&other.verdict) != passes(&trace.verdict) {
            others.push((backend, world.pod_of(backend.ip()).cloned(), other));
        }
    }
    Answer { trace, others }
}

impl Answer {
    fn passes(&self) -> bool {
        passes(&self.trace.verdict) && self.others.iter().all(|(_, _, trace)| passes(&trace.verdict))
    }
}

/// Whether the packet arrives.
fn passes(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Delivered { .. } | Verdict::Answered { .. } | Verdict::Left { .. } => true,
        Verdict::Denied { .. } | Verdict::Refused { .. } => false,
    }
}

fn print(world: &World, answers: &[Answer]) {
    for what in &world.assumed {
        note!("assumed: {what}");
    }
    for what in &world.problems {
        note!("warning: {what}");
    }
    for answer in answers {
        out!("{}", answer.trace);
        for (backend, pod, trace) in &answer.others {
            let pod = pod
                .as_ref()
                .map_or_else(String::new, |pod| format!(", pod {pod}"));
            out!("but to the endpoint {backend}{pod}: {}", trace.verdict);
        }
    }
}

fn json(world: &World, (from, to): (&str, &str), answers: &[Answer], passes: bool) -> Value {
    let answers = answers.iter().map(|answer| {
        let others = answer.others.iter().map(|(backend, pod, trace)| {
            json!({
                "endpoint": backend,
                "pod": pod.as_ref().map(ToString::to_string),
                "verdict": verdict_json(&trace.verdict),
            })
        });
        json!({
            "packet": answer.trace.packet,
            "hops": answer.trace.hops.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "decisions": answer.trace.hops.iter().filter_map(decision_json).collect::<Vec<_>>(),
            "verdict": verdict_json(&answer.trace.verdict),
            "otherEndpoints": others.collect::<Vec<_>>(),
        })
    });
    json!({
        "from": from,
        "to": to,
        "allowed": passes,
        "traces": answers.collect::<Vec<_>>(),
        "assumed": world.assumed,
        "warnings": world.problems,
    })
}

/// Where policies were asked and let it pass: those that a rule allowed have its name.
fn decision_json(hop: &Hop) -> Option<Value> {
    let Hop::Judged { question, passed } = hop else {
        return None;
    };
    let mut value = question_json(question);
    if let Passed::Rule(rule) = passed {
        value["policy"] = rule.policy.to_string().into();
        value["rule"] = rule.index.into();
    }
    value["text"] = passed.to_string().into();
    Some(value)
}

fn question_json(question: &Question) -> Value {
    json!({
        "pod": question.pod,
        "node": question.node,
        "direction": question.direction.to_string(),
        "peer": question.peer,
        "insteadOf": question.instead_of,
    })
}

fn verdict_json(verdict: &Verdict) -> Value {
    let mut value = match verdict {
        Verdict::Delivered { to, source } => {
            json!({"kind": "delivered", "to": to.to_string(), "source": source})
        }
        Verdict::Answered { node, service } => {
            json!({"kind": "answered", "node": node, "service": service.to_string()})
        }
        Verdict::Left { node, source } => json!({"kind": "left", "node": node, "source": source}),
        Verdict::Refused { at, reason } => json!({"kind": "refused", "at": at.to_string(), "reason": reason}),
        Verdict::Denied { question, why } => {
            let mut value = question_json(question);
            value["kind"] = "denied".into();
            value["policies"] = match why {
                Denial::Isolated(policies) => policies.iter().map(ToString::to_string).collect(),
                Denial::Unknown => Vec::<String>::new().into(),
            };
            value
        }
    };
    value["text"] = verdict.to_string().into();
    value
}
