//! nftables over netlink: dump, and change in one atomic batch.
//!
//! The kernel answers within the call that asks, so nothing here waits: the socket doesn't block,
//! and an empty queue means that the answer is complete or lost.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nft::{Batch, Change, Elements, Object, Observed, Place, Request, Table};
use nix::sys::socket::{setsockopt, sockopt};

use crate::{Error, NetNs, Result};

/// What the errors of a dump call it.
const DUMP: &str = "read the nftables ruleset";
/// How often a disturbed dump is read again.
const DUMP_ATTEMPTS: usize = 8;
/// `NLM_F_DUMP_INTR`.
const DUMP_INTERRUPTED: u16 = 0x10;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
/// A whole batch must fit into the socket's buffer at once.
const SEND_BUFFER: usize = 64 << 20;
/// The kernel answers a failed batch with one message for each failed change.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A netfilter connection into one network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

/// A netlink message, taken apart.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Nft {
    /// Connects to the calling thread's namespace.
    pub fn current() -> Result<Nft> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER)?;
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error::Io {
            action: "open a netfilter socket",
            source,
        })?;
        Ok(Nft { socket })
    }

    /// Connects to the given namespace.
    pub fn open(netns: &NetNs) -> Result<Nft> {
        netns.run(Nft::current)?
    }

    /// A table as it is, with the elements of its sets; `None` if there's no such table.
    pub fn observe(&self, place: &Place) -> Result<Option<Observed>> {
        if !self
            .dump(Request::Tables)?
            .iter()
            .any(|object| matches!(object, Object::Table(at, _) if at == place))
        {
            return Ok(None);
        }
        let mut objects = self.dump(Request::Chains)?;
        objects.extend(self.dump(Request::Rules(place))?);
        let sets = self.dump(Request::Sets(place))?;
        for set in &sets {
            if let Object::Set(at, name, _) = set
                && at == place
            {
                objects.extend(self.dump(Request::Elements(place, name))?);
            }
        }
        objects.extend(sets);
        Ok(Some(Observed::collect(place, objects)))
    }

    /// Makes a table with its elements as they should be, writing only what differs; returns the
    /// changes made.
    pub fn apply(&self, table: &Table, elements: &Elements) -> Result<Vec<Change>> {
        let place = Place::new(table.family, &table.name);
        let changes = nft::diff(self.observe(&place)?.as_ref(), table, elements);
        self.change(&place, &changes)?;
        Ok(changes)
    }

    /// Makes all of these changes to a table, or none.
    pub fn change(&self, place: &Place, changes: &[Change]) -> Result<()> {
        let mut batch = Batch::new();
        batch.extend(place, changes);
        self.commit(batch)
    }

    /// Removes a table with all that is in it; false if it isn't there.
    pub fn delete_table(&self, place: &Place) -> Result<bool> {
        match self.change(place, &[Change::DeleteTable]) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes all changes of a batch, or none.
    pub fn commit(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let sent = batch.finish();
        let failed = |source| Error::Io {
            action: "send a batch of nftables changes",
            source,
        };
        self.socket
            .send_to(&sent.bytes, &SocketAddr::new(0, 0), 0)
            .map_err(failed)?;
        let (mut refusal, mut done) = (None, false);
        while let Some(buffer) = self.receive()? {
            for message in messages(&buffer) {
                let Some(errno) = error_number(&message) else {
                    continue;
                };
                if errno == 0 {
                    done |= message.sequence == sent.last();
                } else if refusal.is_none() {
                    // The first one is the cause of the others.
                    refusal = Some(refused(
                        sent.request(message.sequence).to_owned(),
                        errno,
                        message.body,
                    ));
                }
            }
        }
        match refusal {
            Some(refusal) => Err(refusal),
            None if done => Ok(()),
            None => Err(Error::Disconnected {
                request: sent.request(sent.last()).to_owned(),
            }),
        }
    }

    /// Reads all objects that match, again if a change ran into it.
    pub fn dump(&self, request: Request<'_>) -> Result<Vec<Object>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(request)? {
                return Ok(objects);
            }
        }
        Err(Error::Unsettled {
            request: DUMP.to_owned(),
        })
    }

    fn dump_once(&self, request: Request<'_>) -> Result<Option<Vec<Object>>> {
        let failed = |source| Error::Io {
            action: "ask for the nftables ruleset",
            source,
        };
        self.socket
            .send_to(&request.bytes(), &SocketAddr::new(0, 0), 0)
            .map_err(failed)?;
        let (mut objects, mut disturbed) = (Vec::new(), false);
        while let Some(buffer) = self.receive()? {
            for message in messages(&buffer) {
                disturbed |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    MESSAGE_DONE => return Ok((!disturbed).then_some(objects)),
                    MESSAGE_ERROR => match error_number(&message) {
                        // What was to be listed is gone meanwhile.
                        Some(libc::ENOENT) => return Ok(Some(objects)),
                        // The ruleset changed before the dump began.
                        Some(libc::EINTR | libc::EAGAIN) => return Ok(None),
                        errno => {
                            return Err(refused(DUMP.to_owned(), errno.unwrap_or_default(), message.body));
                        }
                    },
                    kind => objects.extend(Object::parse((kind & 0xff) as u8, message.body)),
                }
            }
        }
        Err(Error::Disconnected {
            request: DUMP.to_owned(),
        })
    }

    /// The next datagram; `None` if the kernel has said everything.
    fn receive(&self) -> Result<Option<Vec<u8>>> {
        match self.socket.recv_from_full() {
            Ok((buffer, _)) => Ok(Some(buffer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(source) => Err(Error::Io {
                action: "read the kernel's answer about nftables",
                source,
            }),
        }
    }
}

/// The messages of a datagram.
fn messages(buffer: &[u8]) -> impl Iterator<Item = Message<'_>> {
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
fn error_number(message: &Message<'_>) -> Option<i32> {
    let code = message
        .body
        .first_chunk::<4>()
        .filter(|_| message.kind == MESSAGE_ERROR)?;
    Some(i32::from_ne_bytes(*code).saturating_neg())
}

fn refused(request: String, errno: i32, body: &[u8]) -> Error {
    Error::refused_with(request, errno, body.get(4..).unwrap_or_default())
}
