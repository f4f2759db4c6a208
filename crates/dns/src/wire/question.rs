//! What a client asks.

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

/// Length of a message's header.
pub(super) const HEADER: usize = 12;

/// A question, and what matters of the message that it came in.
#[derive(Debug, Clone)]
pub struct Question {
    /// The message's number.
    pub id: u16,
    /// The name, as it was spelt.
    pub name: Name,
    /// The type of record.
    pub kind: RecordType,
    /// Whether it's to be asked for elsewhere.
    pub recursion: bool,
    /// Whether signatures needn't be checked.
    pub checking_disabled: bool,
    /// Whether the client understands that data are authentic.
    pub authentic: bool,
    /// What the client says of itself.
    pub edns: Option<Edns>,
}

/// What a client says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram that it takes.
    pub max: u16,
    /// Whether it wants signatures.
    pub signed: bool,
}

/// A message that isn't a question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing is said to it: it's no question at all, and an answer to an answer never ends.
    Silence,
    /// This is said to it.
    Reply(Vec<u8>),
}

impl Question {
    /// A question of ours, beside the one that was asked.
    #[must_use]
    pub fn about(&self, name: Name) -> Question {
        Question {
            name,
            edns: self.edns,
            ..*self
        }
    }

    /// Whether the client wants signatures.
    pub fn signed(&self) -> bool {
        self.edns.is_some_and(|edns| edns.signed)
    }
}

/// Reads a message.
pub fn read(bytes: &[u8]) -> Result<Question, Wrong> {
    const RESPONSE: u8 = 0x80;
    if bytes.len() < HEADER || bytes[2] & RESPONSE != 0 {
        return Err(Wrong::Silence);
    }
    if (bytes[2] >> 3) & 0xf != u8::from(OpCode::Query) {
        return Err(refusal(bytes, ResponseCode::NotImp, None));
    }
    let Ok(message) = Message::from_vec(bytes) else {
        return Err(refusal(bytes, ResponseCode::FormErr, None));
    };
    debug_assert_eq!(message.metadata.message_type, MessageType::Query);
    let [query] = message.queries.as_slice() else {
        return Err(refusal(bytes, ResponseCode::FormErr, None));
    };
    let edns = message.edns.as_ref();
    if edns.is_some_and(|edns| edns.version() > 0) {
        return Err(refusal(bytes, ResponseCode::BADVERS, Some(&message)));
    }
    let transfers = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    let pseudo = matches!(
        query.query_type(),
        RecordType::OPT | RecordType::TSIG | RecordType::ZERO
    );
    if query.query_class() != DNSClass::IN || transfers || pseudo {
        return Err(refusal(bytes, ResponseCode::Refused, Some(&message)));
    }
    let mut name = query.name().clone();
    name.set_fqdn(true);
    Ok(Question {
        id: message.metadata.id,
        name,
        kind: query.query_type(),
        recursion: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        authentic: message.metadata.authentic_data,
        edns: edns.map(|edns| Edns {
            max: edns.max_payload(),
            signed: edns.flags().dnssec_ok,
        }),
    })
}

/// A reply without an answer, with the question if it could be read.
fn refusal(bytes: &[u8], code: ResponseCode, asked: Option<&Message>) -> Wrong {
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let op = OpCode::from_u8((bytes[2] >> 3) & 0xf);
    let mut message = Message::error_msg(id, op, code);
    if let Some(asked) = asked {
        message.add_queries(asked.queries.clone());
        if asked.edns.is_some() {
            message.set_edns(super::reply::own_edns(false));
        }
    }
    match message.to_vec() {
        Ok(bytes) => Wrong::Reply(bytes),
        Err(_) => Wrong::Silence,
    }
}
