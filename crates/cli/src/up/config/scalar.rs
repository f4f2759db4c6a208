//! Values that are written as text: each is read once, and says what it should look like.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

/// A range of addresses, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range(pub(super) IpNet);

/// A number of seconds, as in `40s`, `5m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) u32);

/// Processors in thousandths, as in `2`, `1.5` or `500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cpu(pub(super) u64);

/// Bytes, as in `2Gi` or `512Mi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory(pub(super) u64);

fn range(text: &str) -> Result<Range, String> {
    let range = text.parse::<IpNet>().ok();
    range
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        .map(|range| Range(range.trunc()))
        .ok_or_else(|| {
            format!("{text:?} is no range of addresses: write it as in 10.244.0.0/16 or fd00:1::/64")
        })
}

fn seconds(text: &str) -> Result<Seconds, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = factor.and_then(|factor| number.parse::<u32>().ok()?.checked_mul(factor));
    seconds
        .map(Seconds)
        .ok_or_else(|| format!("{text:?} is no duration: write it as in 40s, 5m or 1h"))
}

fn cpu(text: &str) -> Result<Cpu, String> {
    let number = |text: &str| {
        text.bytes()
            .all(|c| c.is_ascii_digit())
            .then(|| text.parse().ok())?
    };
    let millis = match (text.strip_suffix('m'), text.split_once('.')) {
        (Some(millis), _) => number(millis),
        (None, None) => number(text).and_then(|whole: u64| whole.checked_mul(1000)),
        (None, Some((whole, part))) if part.len() <= 3 => number(&format!("{whole}{part:0<3}")),
        (None, Some(_)) => None,
    };
    millis
        .filter(|&millis: &u64| millis > 0)
        .map(Cpu)
        .ok_or_else(|| format!("{text:?} is no number of processors: write it as in 2, 1.5 or 500m"))
}

fn memory(text: &str) -> Result<Memory, String> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("", 0)];
    let bytes = units.into_iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(1 << shift)
    });
    bytes
        .filter(|&bytes| bytes > 0)
        .map(Memory)
        .ok_or_else(|| format!("{text:?} is no amount of memory: write it as in 2Gi or 512Mi"))
}

/// Numbers may be written without quotes.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Text;
    impl de::Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    deserializer.deserialize_str(Text)
}

macro_rules! read_by {
    ($($kind:ty: $read:expr),* $(,)?) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $read(&text(deserializer)?).map_err(de::Error::custom)
            }
        }
    )*};
}

read_by!(Range: range, Seconds: seconds, Cpu: cpu, Memory: memory);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(seconds("40s"), Ok(Seconds(40)));
        assert_eq!(seconds("5m"), Ok(Seconds(300)));
        assert_eq!(seconds("1h"), Ok(Seconds(3600)));
        for text in ["", "40", "s", "-1s", "1.5s", "99999999h", "4 s"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn amounts_are_kubernetes() {
        assert_eq!(cpu("2"), Ok(Cpu(2000)));
        assert_eq!(cpu("500m"), Ok(Cpu(500)));
        assert_eq!((cpu("1.5"), cpu("0.25")), (Ok(Cpu(1500)), Ok(Cpu(250))));
        assert_eq!(memory("2Gi"), Ok(Memory(2 << 30)));
        assert_eq!(memory("1048576"), Ok(Memory(1 << 20)));
        for text in ["", "0", "-1", "two", "2G"] {
            assert!(memory(text).is_err(), "{text:?}");
        }
        for text in ["0", "0.0", "1.5.5", "1.2345", "1.5m", "+1", "-0.5", "."] {
            assert!(cpu(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_is_a_range_of_one() {
        assert_eq!(range("10.0.0.7/8").expect("valid").0.to_string(), "10.0.0.0/8");
        assert_eq!(range("fd00::1").expect("valid").0.to_string(), "fd00::1/128");
        assert!(range("home").is_err());
    }
}
