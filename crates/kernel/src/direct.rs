//! A netlink socket that is asked and answered on the spot: what nftables, conntrack and the
//! programs' filters share, and sockets' ends.
//!
//! The kernel answers within the call that asks, so nothing here waits: the socket doesn't block,
//! and an empty queue means that the answer is complete or lost.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use crate::{Error, Result};

/// `NLM_F_DUMP_INTR`.
const DUMP_INTERRUPTED: u16 = 0x10;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
/// A whole batch must fit into the socket's buffer at once.
const SEND_BUFFER: usize = 64 << 20;
/// The kernel answers a failed batch with one message for each failed change.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How often a disturbed dump is read again.
const DUMP_ATTEMPTS: usize = 8;

/// A socket into one network namespace.
#[derive(Debug)]
pub(crate) struct Direct {
    socket: Socket,
    /// Answers to two questions at once couldn't be told apart.
    exchange: Mutex<()>,
}

/// A netlink message, taken apart.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

impl Direct {
    /// Connects to netfilter in the calling thread's namespace.
    pub(crate) fn netfilter() -> Result<Direct> {
        let open = || -> io::Result<Socket> {
            let socket = open(NETLINK_NETFILTER)?;
            setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER)?;
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            Ok(socket)
        };
        Direct::new(open(), "open a netfilter socket")
    }

    /// Connects to route netlink in the calling thread's namespace.
    pub(crate) fn route() -> Result<Direct> {
        Direct::new(open(NETLINK_ROUTE), "open a netlink socket")
    }

    /// Connects to what knows of sockets in the calling thread's namespace.
    pub(crate) fn sockets() -> Result<Direct> {
        Direct::new(open(NETLINK_SOCK_DIAG), "open a netlink socket")
    }

    fn new(socket: io::Result<Socket>, action: &'static str) -> Result<Direct> {
        Ok(Direct {
            socket: socket.map_err(|source| Error::Io { action, source })?,
            exchange: Mutex::new(()),
        })
    }

    /// Held from a question to the end of its answer.
    pub(crate) fn exchange(&self) -> MutexGuard<'_, ()> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends messages; `action` says what for, should that fail.
    pub(crate) fn send(&self, bytes: &[u8], action: &'static str) -> Result<()> {
        let sent = self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0);
        sent.map(drop).map_err(|source| Error::Io { action, source })
    }

    /// The next datagram; `None` if the kernel has said everything.
    pub(crate) fn receive(&self) -> Result<Option<Vec<u8>>> {
        match self.socket.recv_from_full() {
            Ok((buffer, _)) => Ok(Some(buffer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(source) => Err(Error::Io {
                action: "read netlink's answer",
                source,
            }),
        }
    }

    /// Sends one request and returns what the kernel says before it acknowledges; `what` says what is
    /// asked for; `parse` reads one message.
    pub(crate) fn execute<T>(
        &self,
        request: &[u8],
        what: &str,
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let _exchange = self.exchange();
        self.send(request, "send a request over netlink")?;
        let mut objects = Vec::new();
        while let Some(buffer) = self.receive()? {
            for message in messages(&buffer) {
                match error_number(&message) {
                    Some(0) => return Ok(objects),
                    Some(errno) => return Err(refused(what.to_owned(), errno, message.body)),
                    None => objects.extend(parse(&message)),
                }
            }
        }
        Err(Error::Disconnected {
            request: what.to_owned(),
        })
    }

    /// Reads all objects that a request asks for, again if a change ran into it. `what` says what
    /// is read; `parse` reads one message.
    pub(crate) fn dump<T>(
        &self,
        request: &[u8],
        what: &str,
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(request, what, &parse)? {
                return Ok(objects);
            }
        }
        Err(Error::Unsettled {
            request: what.to_owned(),
        })
    }

    fn dump_once<T>(
        &self,
        request: &[u8],
        what: &str,
        parse: &impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let _exchange = self.exchange();
        self.send(request, "ask netlink for what it holds")?;
        let (mut objects, mut disturbed) = (Vec::new(), false);
        while let Some(buffer) = self.receive()? {
            for message in messages(&buffer) {
                disturbed |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    MESSAGE_DONE => return Ok((!disturbed).then_some(objects)),
                    MESSAGE_ERROR => match error_number(&message) {
                        // What was to be listed is gone meanwhile.
                        Some(libc::ENOENT) => return Ok(Some(objects)),
                        // The objects changed before the dump began.
                        Some(libc::EINTR | libc::EAGAIN) => return Ok(None),
                        errno => {
                            return Err(refused(what.to_owned(), errno.unwrap_or_default(), message.body));
                        }
                    },
                    _ => objects.extend(parse(&message)),
                }
            }
        }
        Err(Error::Disconnected {
            request: what.to_owned(),
        })
    }
}

fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    Ok(socket)
}

/// The messages of a datagram.
pub(crate) fn messages(buffer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    const HEADER: usize = 16;
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let header: &[u8; HEADER] = rest.first_chunk()?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = usize::try_from(word(0)).ok()?;
        let body = rest.get(HEADER..length)?;
        let message = Message {
            kind: half(4),
            flags: half(6),
            sequence: word(8),
            body,
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The error number of an error message, 0 for an acknowledgement; `None` for other messages.
pub(crate) fn error_number(message: &Message<'_>) -> Option<i32> {
    let code = message
        .body
        .first_chunk::<4>()
        .filter(|_| message.kind == MESSAGE_ERROR)?;
    Some(i32::from_ne_bytes(*code).saturating_neg())
}

/// A refusal: `body` is that of the error message.
pub(crate) fn refused(request: String, errno: i32, body: &[u8]) -> Error {
    Error::refused_with(request, errno, body.get(4..).unwrap_or_default())
}
