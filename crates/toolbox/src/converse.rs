//! One HTTP connection: its requests are answered one after the other.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::{self, Content, Ends, Identity, Received, Reply, Request};
use crate::drain::State;
use crate::head::{Head, HeadError};
use crate::reply::{linger, send};
use crate::serve::say;
use crate::wire::{Body, Length, Timed, Wire};

/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(75);
/// How long a request's head, and then each part of its body, may take.
const HEAD_TIME: Duration = Duration::from_secs(10);
const BODY_TIME: Duration = Duration::from_secs(60);
/// How much of a request's body is sent back.
const BODY_SHOWN: usize = 4096;

/// What every connection needs.
pub(crate) struct Server {
    pub(crate) state: Arc<State>,
    pub(crate) identity: Identity,
    /// Before every answer.
    pub(crate) delay: Duration,
    pub(crate) quiet: bool,
}

impl Server {
    /// Answers one connection's requests, one after the other.
    pub(crate) fn converse(&self, stream: TcpStream) {
        let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else {
            return;
        };
        let ends = Ends { client, server };
        let Ok(mut wire) = Timed::wire(stream) else { return };
        while let Ok(true) = self.exchange(&mut wire, ends) {}
        linger(&mut wire);
    }

    /// Answers one request; says whether another may follow.
    fn exchange(&self, wire: &mut Wire, ends: Ends) -> io::Result<bool> {
        wire.get_mut().expire_in(IDLE);
        if wire.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let _working = self.state.work();
        wire.get_mut().expire_in(HEAD_TIME);
        let request = match Head::read(wire) {
            Ok(head) => Request::parse(head),
            Err(HeadError::Bad(status, why)) => Err((status, why)),
            Err(HeadError::Io(e)) if e.kind() == io::ErrorKind::TimedOut => {
                Err((408, "the request took too long".into()))
            }
            Err(_) => return Ok(false),
        };
        let taken = request.and_then(|request| {
            let length = request.head.length();
            match length {
                Ok(length) => Ok((request, length.unwrap_or(Length::Fixed(0)))),
                Err(HeadError::Bad(status, why)) => Err((status, why)),
                Err(other) => Err((400, other.to_string())),
            }
        });
        let (request, length) = match taken {
            Ok(taken) => taken,
            Err((status, why)) => {
                send(wire, &Reply::line(status, &why), false, false)?;
                return Ok(false);
            }
        };
        let received = receive(wire, &request, length)?;
        let mut reply = answer::answer(&request, &received, ends, &self.identity, &self.state);
        reply.delay += self.delay;
        prepare(&reply);
        let stay = (request.minor == 1 || request.head.lists("connection", "keep-alive"))
            && !request.head.lists("connection", "close")
            && !(request.minor == 0 && matches!(reply.body, Content::Chunks { .. }))
            && !self.state.draining();
        let sent = send(wire, &reply, stay, request.method == "HEAD");
        self.report(&request, &reply, ends, sent.is_ok());
        sent.map(|()| stay)
    }

    /// One line a request; probes would drown the rest.
    fn report(&self, request: &Request, reply: &Reply, ends: Ends, sent: bool) {
        let probe = matches!(request.path.as_str(), "/healthz" | "/readyz");
        if self.quiet || (probe && request.method == "GET") {
            return;
        }
        let (method, path, status) = (&request.method, &request.path, reply.status);
        let client = ends.client.ip().to_canonical();
        let cut = if sent { "" } else { " (cut off)" };
        say(&format!("{client} {method} {path:?} {status}{cut}"));
    }
}

/// Reads a request's body: all of it, so that the next request can be found.
fn receive(wire: &mut Wire, request: &Request, length: Length) -> io::Result<Received> {
    if length != Length::Fixed(0) && request.head.lists("expect", "100-continue") {
        wire.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut received = Received::default();
    let mut body = Body::new(wire, length);
    let mut buffer = [0; 16 << 10];
    loop {
        body.wire().get_mut().expire_in(BODY_TIME);
        let n = body.read(&mut buffer)?;
        if n == 0 {
            return Ok(received);
        }
        let shown = n.min(BODY_SHOWN - received.beginning.len());
        received.beginning.extend_from_slice(&buffer[..shown]);
        received.bytes += n as u64;
    }
}

/// What a reply asks for before it is sent.
fn prepare(reply: &Reply) {
    let begin = Instant::now();
    let mut work = 0_u64;
    while begin.elapsed() < reply.load {
        work = std::hint::black_box(work.wrapping_mul(31).wrapping_add(7));
    }
    thread::sleep(reply.delay);
}
