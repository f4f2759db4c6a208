//! Formats of texts: those that Kubernetes checks. What it doesn't know, it lets be, and so do we.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

use crate::check::addresses::Cidr;
use crate::check::names;

/// Whether a text has a format.
pub(crate) fn fits(format: &str, text: &str) -> bool {
    // Dashes in the names of formats don't count.
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => text.len() <= 255 && HOSTNAME.is_match(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => Cidr::parse(text).is_some(),
        "mac" => MAC.is_match(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID.is_match(text) && version_of(text) == Some('3'),
        "uuid4" => UUID.is_match(text) && version_of(text) == Some('4') && VARIANT.is_match(text),
        "uuid5" => UUID.is_match(text) && version_of(text) == Some('5') && VARIANT.is_match(text),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_card(text),
        "ssn" => SSN.is_match(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "rgbcolor" => RGB_COLOR.is_match(text),
        "byte" => STANDARD.decode(text).is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "datetime" => DATE_TIME.is_match(text) && text.parse::<jiff::Timestamp>().is_ok(),
        "duration" => DURATION.is_match(text),
        "k8sshortname" => names::label(text).is_empty(),
        "k8slongname" => names::subdomain(text).is_empty(),
        _ => true,
    }
}

macro_rules! patterns {
    ($($name:ident = $pattern:literal;)*) => {
        $(static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("the pattern is a regular expression"));)*
    };
}

patterns! {
    HOSTNAME = r"^[a-zA-Z0-9\p{S}\p{L}](?:-?[a-zA-Z0-9\p{S}\p{L}]+)*(?:\.[a-zA-Z0-9\p{S}\p{L}](?:-?[a-zA-Z0-9\p{S}\p{L}]+)*)*$";
    MAC = r"^(?:[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}(?:(?:[:-][0-9a-fA-F]{2}){2}|(?:[:-][0-9a-fA-F]{2}){14})?|[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4}){2,3})$";
    UUID = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    VARIANT = r"(?i)^.{8}-?.{4}-?.{4}-?[89ab]";
    SSN = r"^\d{3}[- ]?\d{2}[- ]?\d{4}$";
    HEX_COLOR = r"^#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOR = r"^rgb\(\s*(?:\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s*(?:,\s*(?:\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s*){2}\)$";
    CARD = r"^(?:4\d{12}(?:\d{3})?|5[1-5]\d{14}|6(?:011|5\d\d)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|(?:2131|1800|35\d{3})\d{11})$";
    DATE_TIME = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:?\d{2})$";
    DURATION = r"^(?:0|[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|\d+\s*(?:ns|nano|nanos|nanosecond|nanoseconds|us|µs|μs|micro|micros|microsecond|microseconds|ms|milli|millis|millisecond|milliseconds|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hour|hours|d|day|days|w|wk|week|weeks))$";
    SCHEME = r"^[a-zA-Z][a-zA-Z0-9+.-]*:";
    EMAIL = r#"^(?:[^<>]*<)?(?:[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+|"[^"]*")@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*>?$"#;
}

/// An absolute URI, or a path: what may stand in a request.
fn is_uri(text: &str) -> bool {
    let plain = !text.is_empty() && !text.contains(|c: char| c.is_ascii_control() || c == ' ');
    plain && (text.starts_with('/') || SCHEME.is_match(text))
}

fn is_email(text: &str) -> bool {
    EMAIL.is_match(text) && text.contains('<') == text.ends_with('>')
}

fn version_of(uuid: &str) -> Option<char> {
    uuid.chars().filter(|c| *c != '-').nth(12)
}

fn digits(text: &str, last_may_be_x: bool) -> Option<Vec<u32>> {
    let mut digits = Vec::new();
    let plain: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    for (index, character) in plain.iter().enumerate() {
        match character.to_digit(10) {
            Some(digit) => digits.push(digit),
            None if last_may_be_x && *character == 'X' && index + 1 == plain.len() => digits.push(10),
            None => return None,
        }
    }
    Some(digits)
}

fn is_isbn10(text: &str) -> bool {
    let sum = |digits: Vec<u32>| {
        digits
            .iter()
            .zip(1..)
            .map(|(digit, weight)| digit * weight)
            .sum::<u32>()
    };
    digits(text, true)
        .filter(|digits| digits.len() == 10)
        .is_some_and(|digits| sum(digits) % 11 == 0)
}

fn is_isbn13(text: &str) -> bool {
    let weights = [1, 3].into_iter().cycle();
    let sum = |digits: Vec<u32>| {
        digits
            .iter()
            .zip(weights)
            .map(|(digit, weight)| digit * weight)
            .sum::<u32>()
    };
    digits(text, false)
        .filter(|digits| digits.len() == 13)
        .is_some_and(|digits| sum(digits) % 10 == 0)
}

fn is_card(text: &str) -> bool {
    let plain: String = text.chars().filter(char::is_ascii_digit).collect();
    let luhn = plain.chars().rev().enumerate().filter_map(|(index, c)| {
        let digit = c.to_digit(10)?;
        let doubled = if index % 2 == 1 { digit * 2 } else { digit };
        Some(if doubled > 9 { doubled - 9 } else { doubled })
    });
    CARD.is_match(&plain) && luhn.sum::<u32>() % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn texts_have_their_formats_or_not() {
        for (format, good, bad) in [
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("mac", "02:00:5e:10:00:01", "02:00:5e"),
            ("uri", "https://example.com/a", "example.com"),
            ("email", "a@example.com", "a@"),
            ("hostname", "a.example.com", "a..b"),
            ("uuid", "7b5e4f4c-0000-4000-8000-000000000000", "7b5e"),
            (
                "uuid4",
                "7b5e4f4c-0000-4000-8000-000000000000",
                "7b5e4f4c-0000-3000-8000-000000000000",
            ),
            ("date", "2026-01-31", "2026-02-31"),
            ("date-time", "2026-01-31T10:00:00Z", "2026-01-31"),
            ("duration", "1h30m", "soon"),
            ("duration", "3 days", "3 moons"),
            ("byte", "aGk=", "a"),
            ("hexcolor", "#fff", "#ff"),
            ("rgbcolor", "rgb(1,2,255)", "rgb(1,2,256)"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("ssn", "111-11-1111", "11"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("k8s-short-name", "web", "Web"),
        ] {
            assert!(fits(format, good), "{format} {good}");
            assert!(!fits(format, bad), "{format} {bad}");
        }
        assert!(fits("colour", "anything") && fits("", "anything") && fits("password", ""));
    }
}
