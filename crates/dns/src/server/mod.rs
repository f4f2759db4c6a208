//! Listens: UDP on threads of its own, TCP and HTTP on the runtime.

mod http;
mod tcp;
mod udp;

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use socket2::{Socket, Type};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{Metrics, count};
use crate::resolver::Resolver;
use crate::wire::{self, Question, Wrong};

pub(crate) use http::serve as serve_http;

/// Where questions come in.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Datagrams.
    pub udp: Vec<UdpSocket>,
    /// Connections.
    pub tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Sockets that somebody else has bound, told apart.
    ///
    /// # Errors
    /// When one of them is no socket.
    pub fn from_fds(fds: Vec<OwnedFd>) -> std::io::Result<Sockets> {
        let mut sockets = Sockets::default();
        for fd in fds {
            let socket = Socket::from(fd);
            match socket.r#type()? {
                Type::DGRAM => sockets.udp.push(socket.into()),
                Type::STREAM => sockets.tcp.push(socket.into()),
                other => {
                    return Err(std::io::Error::other(format!(
                        "a socket of another type: {other:?}"
                    )));
                }
            }
        }
        Ok(sockets)
    }
}

/// Answers what comes in until `shutdown`, and then what came in before.
///
/// # Errors
/// When a socket can't be used.
pub async fn serve(
    resolver: Arc<Resolver>,
    sockets: Sockets,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let tasks = TaskTracker::new();
    let threads = udp::start(&resolver, sockets.udp, &tasks, &shutdown)?;
    for listener in sockets.tcp {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tasks.spawn(tcp::serve(Arc::clone(&resolver), listener, shutdown.clone()));
    }
    shutdown.cancelled().await;
    let joined =
        tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
    let _ = joined.await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Reads a question, or says what is to be said to what is none.
fn question(bytes: &[u8], metrics: &Metrics) -> Result<Question, Option<Vec<u8>>> {
    wire::read(bytes).map_err(|wrong| {
        count(&metrics.malformed);
        match wrong {
            Wrong::Silence => None,
            Wrong::Reply(reply) => Some(reply),
        }
    })
}

/// Notes a reply, and how long it took.
fn note(metrics: &Metrics, reply: &[u8], since: Instant) {
    metrics.note_reply(reply, since.elapsed());
}
