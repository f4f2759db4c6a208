//! What a client is told.

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::Record;

use super::question::Question;

/// The largest datagram that is sent, whatever the client takes: more would come in fragments.
pub const MAX_UDP: u16 = 1232;
/// What a client takes that says nothing of it.
pub(super) const MIN_UDP: u16 = 512;

/// An answer of our own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// How it went.
    pub code: ResponseCode,
    /// Whether it's the cluster's, rather than what others said.
    pub authoritative: bool,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// Who says that there is no more.
    pub authorities: Vec<Record>,
    /// What may be asked next.
    pub more: Vec<Record>,
}

impl Answer {
    /// An answer that is none.
    pub fn failed(code: ResponseCode) -> Answer {
        Answer {
            code,
            ..Answer::default()
        }
    }
}

impl Question {
    /// The largest reply that the client takes by UDP.
    pub fn udp_limit(&self) -> usize {
        let max = self.edns.map_or(MIN_UDP, |edns| edns.max);
        usize::from(max.clamp(MIN_UDP, MAX_UDP))
    }
}

/// What we say of ourselves.
pub(super) fn own_edns(signed: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP).set_dnssec_ok(signed);
    edns
}

/// The reply's bytes, at most `limit` of them. What is too long is left out: first what wasn't asked
/// for, then answers, and the client is told that there are more.
pub fn render(question: &Question, answer: &Answer, limit: usize) -> Vec<u8> {
    let mut message = Message::response(question.id, OpCode::Query);
    message.metadata.authoritative = answer.authoritative;
    message.metadata.recursion_desired = question.recursion;
    message.metadata.recursion_available = true;
    message.metadata.checking_disabled = question.checking_disabled;
    message.metadata.response_code = answer.code;
    message.add_query(Query::query(question.name.clone(), question.kind));
    message.insert_answers(answer.answers.clone());
    message.insert_authorities(answer.authorities.clone());
    message.insert_additionals(answer.more.clone());
    if question.edns.is_some() {
        message.set_edns(own_edns(question.signed()));
    }
    let mut bytes = encode(&message);
    if bytes.len() > limit && !message.additionals.is_empty() {
        message.additionals.clear();
        bytes = encode(&message);
    }
    while bytes.len() > limit {
        message.metadata.truncation = true;
        message.authorities.clear();
        let fit = message.answers.len() * limit / bytes.len();
        let fewer = fit.min(message.answers.len().saturating_sub(1));
        let nothing_left = message.answers.is_empty();
        message.answers.truncate(fewer);
        bytes = encode(&message);
        if nothing_left {
            break;
        }
    }
    bytes
}

/// What can't be written, which only a name that is too long could cause, is a failure.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_else(|error| {
        tracing::warn!(%error, "a reply can't be written");
        let mut failed = Message::error_msg(message.metadata.id, OpCode::Query, ResponseCode::ServFail);
        failed.add_queries(message.queries.clone());
        failed.to_vec().unwrap_or_default()
    })
}
