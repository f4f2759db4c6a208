//! Deleting a link without waiting for those who may still look at it.
//!
//! The kernel takes a link out of its namespace at once, and then waits until nobody can hold it
//! any more, 15 to 40 ms, before it acknowledges. The caller's system call lasts as long, so on the
//! connection that all share everybody would wait. A deletion therefore has a socket of its own,
//! and asks for an echo: kernels from 6.2 send it when the link is gone and the waiting begins.
//! Older ones don't know of it, and their acknowledgement is waited for.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use netlink_packet_core::{NLM_F_ACK, NLM_F_ECHO, NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use tokio::io::unix::AsyncFd;

use crate::hurry::Hurry;
use crate::netlink::serialize;
use crate::{Error, Netlink, Result};

/// `RTM_DELLINK`: the echo.
const DELETED: u16 = 17;
/// An answer is one link's description at most.
const ANSWER: usize = 32 << 10;

/// Shared by the thread that is inside the system call and the task that reads.
#[derive(Clone)]
struct Shared(Arc<Socket>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Netlink {
    /// Deletes a link by name; false if there was none. A veth's other end goes with it. When this
    /// returns nothing passes it and its name is free.
    pub async fn delete_link(&self, name: &str) -> Result<bool> {
        let request = || format!("delete link {name}");
        let failed = |source| Error::Io {
            action: "delete a link over a socket of its own",
            source,
        };
        let socket = Shared(Arc::new(self.netns().run(open)?.map_err(failed)?));
        let message = message(name);
        let sending = socket.clone();
        let _hurry = Hurry::up();
        let mut sent = tokio::task::spawn_blocking(move || {
            sending.0.send_to(&message, &SocketAddr::new(0, 0), 0).map(drop)
        });
        // SAFETY: `Shared` gives the same descriptor always, and it's open as long as one is there.
        let answers = unsafe { AsyncFd::register(socket) }.map_err(|error| failed(error.into()))?;
        let mut sending = true;
        loop {
            tokio::select! {
                answer = receive(&answers) => match read(&answer.map_err(failed)?) {
                    Some(Ok(())) => return Ok(true),
                    Some(Err(refusal)) => {
                        let error = Error::refused(request(), &refusal);
                        return if error.is_not_found() { Ok(false) } else { Err(error) };
                    }
                    None => {}
                },
                done = &mut sent, if sending => {
                    sending = false;
                    // It can't be cancelled; what it may do is panic, which it doesn't.
                    done.unwrap_or_else(|ended| Err(io::Error::other(ended))).map_err(failed)?;
                }
            }
        }
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    Ok(socket)
}

fn message(name: &str) -> Vec<u8> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    serialize(RouteNetlinkMessage::DelLink(link), NLM_F_ACK | NLM_F_ECHO)
}

async fn receive(socket: &AsyncFd<Shared>) -> io::Result<Vec<u8>> {
    loop {
        let mut ready = socket.readable().await?;
        let mut buffer = Vec::with_capacity(ANSWER);
        if let Ok(received) = ready.try_io(|socket| socket.get_ref().0.recv(&mut buffer, 0)) {
            return received.map(|_| buffer);
        }
    }
}

/// What an answer says: deleted, refused, or something else.
fn read(bytes: &[u8]) -> Option<Result<(), netlink_packet_core::ErrorMessage>> {
    let header = NetlinkBuffer::new_checked(bytes).ok()?;
    if header.message_type() == DELETED {
        return Some(Ok(()));
    }
    let message: NetlinkMessage<RouteNetlinkMessage> = NetlinkMessage::deserialize(bytes).ok()?;
    match message.payload {
        NetlinkPayload::Error(answer) if answer.code.is_some() => Some(Err(answer)),
        NetlinkPayload::Error(_) => Some(Ok(())),
        _ => None,
    }
}
