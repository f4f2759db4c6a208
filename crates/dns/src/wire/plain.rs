//! What is asked most, a name's address, read and answered where it stands: no message is built of it.
//!
//! ```text
//! header │ question │ [OPT]  ──►  header │ question │ address, or the zone's SOA │ [OPT]
//! ```
//!
//! Whatever is out of the ordinary is left to [`super::read`] and [`super::render`], which say the same.

use std::net::IpAddr;

use super::question::{Edns, HEADER};
use super::reply::{MAX_UDP, MIN_UDP};
use crate::name::Labels;
use crate::table::{SOA_TIMES, TTL};

const A: u16 = 1;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const IN: u16 = 1;
/// Where OPT says that signatures are wanted.
const SIGNED: u16 = 0x8000;
/// A name that goes on at another place of the message.
const POINTER: u16 = 0xc000;

const RECURSION_DESIRED: u8 = 0x01;
const AUTHORITATIVE: u8 = 0x04;
const RESPONSE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
const RECURSION_AVAILABLE: u8 = 0x80;

/// A question for a name's address.
pub struct Plain<'a> {
    /// Header and question.
    asked: &'a [u8],
    /// The name.
    pub labels: Labels,
    /// Of version 6.
    v6: bool,
    edns: Option<Edns>,
}

/// What is said of a name's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// How many of the name's labels are in front of it.
    pub below: usize,
    /// Its serial number.
    pub serial: u32,
}

impl Plain<'_> {
    /// Reads a message; none if it's anything else.
    pub fn read(bytes: &[u8]) -> Option<Plain<'_>> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        // A question, of the ordinary kind, and nothing beside it but OPT.
        let more = match header {
            [_, _, first, _, 0, 1, 0, 0, 0, 0, 0, more @ (0 | 1)] if first & !RECURSION_DESIRED == 0 => *more,
            _ => return None,
        };
        let (labels, end) = Labels::read(bytes, HEADER)?;
        let v6 = match (word(bytes, end)?, word(bytes, end + 2)?) {
            (A, IN) => false,
            (AAAA, IN) => true,
            _ => return None,
        };
        let end = end + 4;
        let (asked, rest) = bytes.split_at_checked(end)?;
        let edns = match more {
            0 if rest.is_empty() => None,
            1 => Some(edns(rest)?),
            _ => return None,
        };
        Some(Plain {
            asked,
            labels,
            v6,
            edns,
        })
    }

    /// Writes the reply, from those of a name's addresses that are of the version that is asked for.
    /// False if it doesn't fit.
    pub fn render(&self, addresses: &[IpAddr], zone: Zone, into: &mut Vec<u8>) -> bool {
        into.clear();
        into.extend_from_slice(self.asked);
        into[2] = RESPONSE | AUTHORITATIVE | (self.asked[2] & RECURSION_DESIRED);
        into[3] = RECURSION_AVAILABLE | (self.asked[3] & CHECKING_DISABLED);
        let mut answers = 0u8;
        for address in addresses {
            match address {
                IpAddr::V4(v4) if !self.v6 => record(into, A, &v4.octets()),
                IpAddr::V6(v6) if self.v6 => record(into, AAAA, &v6.octets()),
                _ => continue,
            }
            // More of them don't fit anyway.
            answers = answers.saturating_add(1);
        }
        into[7] = answers;
        into[9] = u8::from(answers == 0);
        if answers == 0 {
            self.soa(zone, into);
        }
        into[11] = u8::from(self.edns.is_some());
        if let Some(edns) = self.edns {
            let signed = if edns.signed { SIGNED } else { 0 };
            into.push(0);
            words(into, &[OPT, MAX_UDP, 0, signed, 0]);
        }
        let limit = self.edns.map_or(MIN_UDP, |edns| edns.max.clamp(MIN_UDP, MAX_UDP));
        into.len() <= usize::from(limit)
    }

    /// Who says that there is no address: names that go on with the zone's, within the question.
    fn soa(&self, zone: Zone, into: &mut Vec<u8>) {
        let below = self.labels.first(zone.below).map(|label| label.len() + 1);
        let at = HEADER + below.sum::<usize>();
        let pointer = POINTER | u16::try_from(at).expect("a name is shorter than 256 bytes");
        words(into, &[pointer, SOA, IN]);
        into.extend(TTL.to_be_bytes());
        let length_at = into.len();
        into.extend([0, 0]);
        into.extend_from_slice(b"\x02ns\x03dns");
        words(into, &[pointer]);
        into.extend_from_slice(b"\x0ahostmaster");
        words(into, &[pointer]);
        into.extend(zone.serial.to_be_bytes());
        into.extend(SOA_TIMES.iter().flat_map(|time| time.to_be_bytes()));
        let length = u16::try_from(into.len() - length_at - 2).expect("some ten bytes");
        into[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }
}

/// What a client says of itself, if that's all there is and it has no options.
fn edns(bytes: &[u8]) -> Option<Edns> {
    let [0, rest @ ..]: &[u8; 11] = bytes.try_into().ok()? else {
        return None;
    };
    let [OPT, max, 0, flags, 0] = [0, 2, 4, 6, 8].map(|at| u16::from_be_bytes([rest[at], rest[at + 1]]))
    else {
        return None;
    };
    let signed = flags & SIGNED != 0;
    Some(Edns { max, signed })
}

/// A record of the name that is asked for.
fn record(into: &mut Vec<u8>, kind: u16, data: &[u8]) {
    const QUESTION: u16 = POINTER | HEADER as u16;
    words(into, &[QUESTION, kind, IN]);
    into.extend(TTL.to_be_bytes());
    words(into, &[u16::try_from(data.len()).expect("an address")]);
    into.extend_from_slice(data);
}

fn words(into: &mut Vec<u8>, words: &[u16]) {
    words.iter().for_each(|word| into.extend(word.to_be_bytes()));
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes: &[u8; 2] = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}
