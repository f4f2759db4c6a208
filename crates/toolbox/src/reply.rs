//! Sending a [`Reply`], and closing so that it arrives.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use crate::answer::{Content, Reply};
use crate::pattern;
use crate::wire::Wire;

/// Sends a reply; `stay` says whether the connection may be used again.
pub(crate) fn send(wire: &mut Wire, reply: &Reply, stay: bool, head_only: bool) -> io::Result<()> {
    let out = wire.get_mut();
    let status = reply.status;
    // These have no body by definition.
    let bare = matches!(status, 204 | 304);
    let (kind, length) = match &reply.body {
        Content::Text(kind, text) => (*kind, format!("Content-Length: {}", text.len())),
        Content::Pattern(size) => ("text/plain", format!("Content-Length: {size}")),
        Content::Chunks { .. } => ("text/plain", "Transfer-Encoding: chunked".to_owned()),
    };
    let connection = if stay { "keep-alive" } else { "close" };
    let reason = reason(status);
    let mut head = format!("HTTP/1.1 {status} {reason}\r\nConnection: {connection}\r\n");
    if !bare {
        head += &format!("Content-Type: {kind}\r\n{length}\r\n");
    }
    head += "\r\n";
    let mut head = head.into_bytes();
    match &reply.body {
        _ if bare || head_only => out.write_all(&head),
        // One segment where it fits.
        Content::Text(_, text) => {
            head.extend_from_slice(text.as_bytes());
            out.write_all(&head)
        }
        Content::Pattern(size) => {
            out.write_all(&head)?;
            pattern_to(out, 0, *size)
        }
        Content::Chunks {
            count,
            interval,
            size,
        } => {
            out.write_all(&head)?;
            chunks_to(out, *count, *interval, *size)
        }
    }
}

fn pattern_to(out: &mut impl Write, offset: u64, size: u64) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(size.min(64 << 10)).unwrap_or(64 << 10)];
    let (mut at, end) = (offset, offset.saturating_add(size));
    while at < end {
        let n = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        pattern::fill(at, &mut buffer[..n]);
        out.write_all(&buffer[..n])?;
        at += n as u64;
    }
    Ok(())
}

fn chunks_to(out: &mut impl Write, count: u64, interval: Duration, size: Option<u64>) -> io::Result<()> {
    let mut sent = 0;
    for chunk in 1..=count {
        if chunk > 1 {
            thread::sleep(interval);
        }
        match size {
            None => {
                let line = format!("chunk {chunk} of {count}\n");
                write!(out, "{:x}\r\n{line}\r\n", line.len())?;
            }
            Some(size) => {
                // Rounded so that the last one reaches the size exactly.
                let until = u128::from(size) * u128::from(chunk) / u128::from(count);
                let until = u64::try_from(until).unwrap_or(size);
                if until > sent {
                    write!(out, "{:x}\r\n", until - sent)?;
                    pattern_to(out, sent, until - sent)?;
                    out.write_all(b"\r\n")?;
                    sent = until;
                }
            }
        }
    }
    out.write_all(b"0\r\n\r\n")
}

/// Closes a connection after its last reply: what the client still sends is
/// read for a moment, for closing over it would take the reply back.
pub(crate) fn linger(wire: &mut Wire) {
    if wire.get_ref().stream().shutdown(Shutdown::Write).is_err() {
        return;
    }
    wire.get_mut().expire_in(Duration::from_millis(500));
    let mut buffer = [0; 4096];
    for _ in 0..64 {
        if !matches!(wire.read(&mut buffer), Ok(n) if n > 0) {
            return;
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "By Request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_size_asked_for() {
        for (count, size) in [(3, 10), (10, 3), (1, 0), (4, 100_000)] {
            let mut out = Vec::new();
            chunks_to(&mut out, count, Duration::ZERO, Some(size)).unwrap();
            let mut wire = out.as_slice();
            let mut body = Vec::new();
            let mut reader = crate::wire::Body::new(&mut wire, crate::wire::Length::Chunked);
            reader.read_to_end(&mut body).unwrap();
            assert_eq!(body.len() as u64, size);
            assert_eq!(pattern::first_difference(0, &body), None);
        }
    }
}
