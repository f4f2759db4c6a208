//! The head of an HTTP/1 message: its first line and its headers.
//!
//! Strict where leniency lets two parsers disagree about where a message ends:
//! lengths that contradict each other, spaces before colons and folded lines
//! are refused.

use std::fmt;
use std::io::{self, BufRead};

use crate::wire::{self, Length};

/// The longest single line, and the most header lines, that are read.
const LINE_LIMIT: u64 = 16 << 10;
const MOST_HEADERS: usize = 100;

/// A message's first line and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum HeadError {
    /// The peer closed, or went away, before it sent one.
    Closed,
    /// It isn't HTTP, or more of it than is good.
    Bad(u16, String),
    /// The connection failed in the middle.
    Io(io::Error),
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Bad(_, why) => f.write_str(why),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Head {
    /// Reads a head up to and with the empty line that ends it.
    pub(crate) fn read(wire: &mut impl BufRead) -> Result<Self, HeadError> {
        let first = match wire::line(wire, LINE_LIMIT) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(HeadError::Closed),
            other => other.map_err(unread)?,
        };
        let first = text(&first)?.to_owned();
        let mut headers = Vec::new();
        loop {
            let line = wire::line(wire, LINE_LIMIT).map_err(unread)?;
            if line.is_empty() {
                return Ok(Self { first, headers });
            }
            if headers.len() == MOST_HEADERS {
                return Err(HeadError::Bad(431, "too many headers".into()));
            }
            headers.push(header(text(&line)?)?);
        }
    }

    /// A header's first value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let of = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(of).map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated header holds the word.
    pub(crate) fn lists(&self, name: &str, word: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(word))
    }

    /// Where the body ends by the headers; `None` if they say nothing.
    pub(crate) fn length(&self) -> Result<Option<Length>, HeadError> {
        let refuse = |why: &str| Err(HeadError::Bad(400, why.to_owned()));
        let mut lengths = self.all("content-length").map(str::trim);
        let first = lengths.next();
        if let Some(coding) = self.header("transfer-encoding") {
            if first.is_some() {
                return refuse("both Content-Length and Transfer-Encoding");
            }
            if !coding.trim().eq_ignore_ascii_case("chunked") || self.all("transfer-encoding").count() > 1 {
                return refuse("the only Transfer-Encoding known here is `chunked`");
            }
            return Ok(Some(Length::Chunked));
        }
        let Some(length) = first else { return Ok(None) };
        if lengths.any(|other| other != length) {
            return refuse("two values of Content-Length");
        }
        match length.parse::<u64>() {
            Ok(bytes) if length.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(Length::Fixed(bytes))),
            _ => refuse("Content-Length is not a number"),
        }
    }
}

fn unread(error: io::Error) -> HeadError {
    match error.kind() {
        io::ErrorKind::InvalidData => HeadError::Bad(431, error.to_string()),
        _ => HeadError::Io(error),
    }
}

fn text(line: &[u8]) -> Result<&str, HeadError> {
    std::str::from_utf8(line)
        .ok()
        .filter(|text| !text.contains(|c: char| c.is_ascii_control() && c != '\t'))
        .ok_or_else(|| HeadError::Bad(400, "the head holds bytes that aren't text".into()))
}

fn header(line: &str) -> Result<(String, String), HeadError> {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    line.split_once(':')
        .filter(|(name, _)| !name.is_empty() && name.bytes().all(token))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .ok_or_else(|| HeadError::Bad(400, "a header is not `Name: value`".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, HeadError> {
        Head::read(&mut text.as_bytes())
    }

    #[test]
    fn a_head_is_read_up_to_the_empty_line() {
        let mut text = &b"GET / HTTP/1.1\r\nHost: a\r\nX:  b c \r\n\r\nrest"[..];
        let head = Head::read(&mut text).unwrap();
        assert_eq!(head.first, "GET / HTTP/1.1");
        assert_eq!(head.header("x"), Some("b c"));
        assert_eq!(text, b"rest");
    }

    #[test]
    fn malformed_heads_are_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
        for text in [
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nnothing\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \u{1}\r\n\r\n",
            &many,
            &long,
        ] {
            assert!(matches!(read(text), Err(HeadError::Bad(..))), "{text:.60}");
        }
        assert!(matches!(read(""), Err(HeadError::Closed)));
    }

    #[test]
    fn contradicting_lengths_are_refused() {
        let length = |headers: &str| read(&format!("x\r\n{headers}\r\n")).unwrap().length();
        assert_eq!(length("").unwrap(), None);
        assert_eq!(length("Content-Length: 5\r\n").unwrap(), Some(Length::Fixed(5)));
        assert_eq!(
            length("Transfer-Encoding: Chunked\r\n").unwrap(),
            Some(Length::Chunked)
        );
        for bad in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 5, 5\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
        ] {
            assert!(length(bad).is_err(), "{bad}");
        }
    }
}
