//! What another server said, as it wrote it.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Record;

use super::question::{HEADER, Question};
use super::reply::MAX_UDP;

const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RESPONSE: u8 = 0x80;
const RECURSION_AVAILABLE: u8 = 0x80;
const AUTHENTIC: u8 = 0x20;
const CHECKING_DISABLED: u8 = 0x10;
const CODE: u8 = 0x0f;

const SOA: u16 = 6;

/// A reply of another server, but for what it said of itself and beside the matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Header, question, answers and authorities.
    bytes: Vec<u8>,
    /// Where the question ends.
    question_end: usize,
    /// The records, answers first.
    records: Vec<Place>,
    answers: u16,
    /// For how many seconds it holds, by what its records say.
    lifetime: Option<u32>,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Where its time to live is.
    ttl: usize,
    end: usize,
}

/// Why a reply is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It can't be read.
    #[error("it can't be read")]
    Broken,
    /// It answers another question.
    #[error("it answers another question")]
    Other,
    /// There is more, by TCP.
    #[error("it is cut short")]
    CutShort,
}

impl Packet {
    /// Reads a reply to the question that was sent as `asked`.
    pub fn read(bytes: &[u8], asked: &[u8]) -> Result<Packet, Unfit> {
        let header = bytes.get(..HEADER).ok_or(Unfit::Other)?;
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if header[2] & RESPONSE == 0 || header[..2] != asked[..2] {
            return Err(Unfit::Other);
        }
        let question_end = end_of_question(asked).ok_or(Unfit::Broken)?;
        if count(4) != 1 || !is_same(bytes, asked, question_end) {
            return Err(Unfit::Other);
        }
        if header[2] & TRUNCATED != 0 {
            return Err(Unfit::CutShort);
        }
        let (answers, authorities) = (count(6), count(8));
        let mut records = Vec::new();
        let (mut positive, mut negative): (Option<u32>, Option<u32>) = (None, None);
        let mut at = question_end;
        for index in 0..u32::from(answers) + u32::from(authorities) {
            let record = record(bytes, at).ok_or(Unfit::Broken)?;
            let shorter = |known: Option<u32>, ttl: u32| Some(known.map_or(ttl, |known| known.min(ttl)));
            if index < u32::from(answers) {
                positive = shorter(positive, record.ttl);
            } else if record.kind == SOA {
                let last = bytes[..record.place.end].last_chunk::<4>().ok_or(Unfit::Broken)?;
                negative = shorter(negative, record.ttl.min(u32::from_be_bytes(*last)));
            }
            at = record.place.end;
            records.push(record.place);
        }
        let mut kept = bytes[..at].to_vec();
        kept[10..HEADER].fill(0);
        // Names within data must be readable, too, before they are passed on.
        Message::from_vec(&kept).map_err(|_| Unfit::Broken)?;
        let mut packet = Packet {
            bytes: kept,
            question_end,
            records,
            answers,
            lifetime: negative.or(positive),
        };
        // An alias whose target there is no data of holds no longer than either says.
        if let (Some(positive), Some(negative)) = (positive, negative) {
            packet.lifetime = Some(positive.min(negative));
        }
        Ok(packet)
    }

    /// How it went.
    pub fn code(&self) -> ResponseCode {
        ResponseCode::from_low(self.bytes[3] & CODE)
    }

    /// Whether there is an answer in it.
    pub fn has_answers(&self) -> bool {
        self.answers > 0
    }

    /// For how many seconds it holds; none if it doesn't say.
    pub fn lifetime(&self) -> Option<u32> {
        self.lifetime
    }

    /// How much memory it takes, about.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Place>() + size_of::<Packet>()
    }

    /// The records, `age` seconds later; answers and authorities.
    pub fn records(&self, left: Left) -> Option<(Vec<Record>, Vec<Record>)> {
        let mut bytes = self.bytes.clone();
        self.set_left(&mut bytes, left);
        let message = Message::from_vec(&bytes).ok()?;
        Some((message.answers, message.authorities))
    }

    /// As a reply to that question, at most `limit` bytes. What is too long is left out, and the
    /// client is told so.
    pub fn render(&self, question: &Question, left: Left, limit: usize) -> Vec<u8> {
        let edns = question.edns.is_some().then(|| opt(question.signed()));
        let room = limit.saturating_sub(edns.as_ref().map_or(0, Vec::len));
        let fit = |end: usize| end <= room;
        let whole = fit(self.bytes.len());
        let kept = match whole {
            true => self.records.len(),
            false => self.records[..usize::from(self.answers)]
                .iter()
                .take_while(|place| fit(place.end))
                .count(),
        };
        let end = kept
            .checked_sub(1)
            .map_or(self.question_end, |last| self.records[last].end);
        let mut bytes = Vec::with_capacity(end + 11);
        bytes.extend_from_slice(&self.bytes[..end]);
        self.set_left(&mut bytes, left);
        bytes[..2].copy_from_slice(&question.id.to_be_bytes());
        let flag = |yes: bool, flag: u8| if yes { flag } else { 0 };
        bytes[2] = RESPONSE | flag(!whole, TRUNCATED) | flag(question.recursion, RECURSION_DESIRED);
        let authentic = self.bytes[3] & flag(question.authentic || question.signed(), AUTHENTIC);
        let checking = flag(question.checking_disabled, CHECKING_DISABLED);
        bytes[3] = RECURSION_AVAILABLE | authentic | checking | (self.bytes[3] & CODE);
        if !whole {
            let kept = u16::try_from(kept).expect("no more than there were");
            bytes[6..8].copy_from_slice(&kept.to_be_bytes());
            bytes[8..10].copy_from_slice(&[0, 0]);
        }
        spell(&mut bytes, question);
        if let Some(edns) = edns {
            bytes[10..12].copy_from_slice(&[0, 1]);
            bytes.extend(edns);
        }
        bytes
    }

    fn set_left(&self, bytes: &mut [u8], left: Left) {
        for place in &self.records {
            let Some(ttl) = bytes.get_mut(place.ttl..place.ttl + 4) else {
                break;
            };
            let said = u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]);
            ttl.copy_from_slice(&left.of(said).to_be_bytes());
        }
    }
}

/// How much of the time to live is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// All but that many seconds.
    After(u32),
    /// It is over, and the answer is given for want of a better one.
    Stale,
}

impl Left {
    /// What clients are told to keep an answer for whose time is over, in seconds.
    pub const STALE: u32 = 30;

    fn of(self, said: u32) -> u32 {
        match self {
            Left::After(age) => said.saturating_sub(age),
            Left::Stale => Left::STALE,
        }
    }
}

/// A record as it is written.
struct Written {
    kind: u16,
    ttl: u32,
    place: Place,
}

fn record(bytes: &[u8], at: usize) -> Option<Written> {
    let at = end_of_name(bytes, at)?;
    let fixed: [u8; 10] = *bytes.get(at..)?.first_chunk()?;
    let [k0, k1, _, _, t0, t1, t2, t3, l0, l1] = fixed;
    let end = at + fixed.len() + usize::from(u16::from_be_bytes([l0, l1]));
    let place = Place { ttl: at + 4, end };
    let written = Written {
        kind: u16::from_be_bytes([k0, k1]),
        // One with the highest bit set means zero (RFC 2181).
        ttl: u32::from_be_bytes([t0, t1, t2, t3]).min(i32::MAX.cast_unsigned()),
        place,
    };
    (end <= bytes.len()).then_some(written)
}

/// Where a name ends: after its root, or after the pointer to the rest of it.
fn end_of_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    const POINTER: u8 = 0xc0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & POINTER == POINTER => return Some(at + 2),
            length if length & POINTER == 0 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn end_of_question(bytes: &[u8]) -> Option<usize> {
    let end = end_of_name(bytes, HEADER)? + 4;
    (end <= bytes.len()).then_some(end)
}

/// Whether two messages have the same question, however its name is spelt.
fn is_same(bytes: &[u8], asked: &[u8], end: usize) -> bool {
    let (Some(found), Some(asked)) = (bytes.get(HEADER..end), asked.get(HEADER..end)) else {
        return false;
    };
    // Type and class at the end aren't text.
    found.eq_ignore_ascii_case(asked) && found.last_chunk::<4>() == asked.last_chunk::<4>()
}

/// Spells the name as this client did.
fn spell(bytes: &mut [u8], question: &Question) {
    let mut at = HEADER;
    for label in question.name.iter() {
        let Some(place) = bytes.get_mut(at + 1..at + 1 + label.len()) else {
            return;
        };
        if !place.eq_ignore_ascii_case(label) {
            return;
        }
        place.copy_from_slice(label);
        at += 1 + label.len();
    }
}

/// What we say of ourselves, as a record.
fn opt(signed: bool) -> Vec<u8> {
    let [max, min] = MAX_UDP.to_be_bytes();
    let signed = if signed { 0x80 } else { 0 };
    vec![0, 0, 41, max, min, 0, 0, signed, 0, 0, 0]
}
