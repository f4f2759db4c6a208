//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address, printed as `02:72:69:70:73:74`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// A locally administered unicast address made of the low 40 bits of `seed`: the same seed
    /// always yields the same address, so that a plan needs no memory.
    pub const fn local(seed: u64) -> MacAddr {
        let [_, _, _, a, b, c, d, e] = seed.to_be_bytes();
        MacAddr([0x02, a, b, c, d, e])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text wasn't six hexadecimal bytes separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address (write it like 02:00:00:00:00:01)")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<MacAddr, ParseMacError> {
        let error = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            // `from_str_radix` would take a sign.
            let hex = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            let part = parts.next().filter(hex).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() {
            Err(error())
        } else {
            Ok(MacAddr(bytes))
        }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<MacAddr, ParseMacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let mac = MacAddr([0x02, 0, 0xff, 0x10, 0xab, 0x01]);
        assert_eq!(mac.to_string(), "02:00:ff:10:ab:01");
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in [
            "",
            "02:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:+1",
            "0200:00:00:00:1",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn made_up_addresses_are_local_and_unicast() {
        assert_eq!(MacAddr::local(u64::MAX).0[0] & 0b11, 0b10);
        assert_eq!(MacAddr::local(1), MacAddr::local(1));
    }
}
