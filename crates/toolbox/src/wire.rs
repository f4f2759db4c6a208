//! A connection whose reads and writes all have an end in time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A buffered connection; see [`Timed`] for its deadlines.
pub(crate) type Wire = BufReader<Timed>;

/// A write that makes no progress for this long is given up.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// A TCP stream with a deadline for everything that is read from it, which a
/// peer that sends a byte now and then can't push out.
pub(crate) struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    /// Wraps a connection; nothing can be read before a deadline is set.
    pub(crate) fn wire(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_STALL))?;
        let deadline = Instant::now();
        Ok(BufReader::new(Self { stream, deadline }))
    }

    /// Reads fail with `TimedOut` once this much time has passed.
    pub(crate) fn expire_in(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// The connection itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        match self.stream.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            other => other,
        }
    }
}

impl Write for Timed {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.stream.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a message says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// After this many bytes.
    Fixed(u64),
    /// With a chunk of no length.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// A message's body, unwrapped from its chunks. Reading it to its end leaves
/// the connection at the next message.
pub(crate) struct Body<'a, R> {
    wire: &'a mut R,
    length: Length,
    /// Of the fixed length or of the current chunk.
    left: u64,
    done: bool,
    first: bool,
}

impl<'a, R: BufRead> Body<'a, R> {
    pub(crate) fn new(wire: &'a mut R, length: Length) -> Self {
        let left = match length {
            Length::Fixed(bytes) => bytes,
            Length::Chunked | Length::UntilClose => 0,
        };
        Self {
            wire,
            length,
            left,
            done: length == Length::Fixed(0),
            first: true,
        }
    }

    /// The connection under it, to move its deadline.
    pub(crate) fn wire(&mut self) -> &mut R {
        self.wire
    }

    /// Goes on to the next chunk; the one of no length ends the body.
    fn next_chunk(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.first) && !line(self.wire, 2)?.is_empty() {
            return Err(bad("a chunk is longer than it says"));
        }
        let head = line(self.wire, 1024)?;
        let digits = head.split(|b| *b == b';').next().unwrap_or_default();
        let digits = digits.trim_ascii();
        let hex = std::str::from_utf8(digits).ok().filter(|text| {
            !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
        });
        self.left = hex
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .ok_or_else(|| bad("a chunk's length is no hexadecimal number"))?;
        if self.left == 0 {
            self.done = true;
            // Trailers, which nobody here wants, up to an empty line.
            for _ in 0..100 {
                if line(self.wire, 8192)?.is_empty() {
                    return Ok(());
                }
            }
            return Err(bad("too many trailers"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.length == Length::UntilClose {
            return self.wire.read(buffer);
        }
        if !self.done && self.left == 0 {
            self.next_chunk()?;
        }
        if self.done || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let n = self.wire.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection ended inside the body",
            ));
        }
        self.left -= n as u64;
        self.done = self.left == 0 && self.length != Length::Chunked;
        Ok(n)
    }
}

/// One line without its end, of at most `limit` bytes with it.
pub(crate) fn line(wire: &mut impl BufRead, limit: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    wire.take(limit).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => {}
        Some(_) if line.len() as u64 + 1 >= limit => return Err(bad("a line is too long")),
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// The peer broke the protocol.
pub(crate) fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(mut text: &[u8], length: Length) -> (io::Result<Vec<u8>>, usize) {
        let mut out = Vec::new();
        let read = Body::new(&mut text, length).read_to_end(&mut out);
        (read.map(|_| out), text.len())
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let (read, left) = body(b"helloGET", Length::Fixed(5));
        assert_eq!((read.unwrap().as_slice(), left), (&b"hello"[..], 3));
        let (read, left) = body(
            b"5;x=1\r\nhello\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\nGET",
            Length::Chunked,
        );
        assert_eq!((read.unwrap().as_slice(), left), (&b"hello!"[..], 3));
        let (read, _) = body(b"to the end", Length::UntilClose);
        assert_eq!(read.unwrap(), b"to the end");
    }

    #[test]
    fn a_body_cut_short_or_malformed_is_an_error() {
        for (text, length) in [
            (&b"hell"[..], Length::Fixed(5)),
            (b"5\r\nhel", Length::Chunked),
            (b"5\r\nhello", Length::Chunked),
            (b"5\r\nhello!\r\n0\r\n\r\n", Length::Chunked),
            (b"x\r\n", Length::Chunked),
            (b"-5\r\nhello\r\n", Length::Chunked),
            (b"11111111111111111\r\n", Length::Chunked),
            (b"", Length::Chunked),
        ] {
            assert!(body(text, length).0.is_err(), "{text:?}");
        }
    }
}
