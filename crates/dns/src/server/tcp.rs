//! Connections. Questions on one are answered as soon as each can be, in any order (RFC 7766).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{note, question};
use crate::metrics::count;
use crate::resolver::Resolver;

/// Connections at a time, of all and of one client.
const MOST: usize = 2048;
const MOST_OF_ONE: usize = 64;
/// Questions at a time on one connection.
const MOST_AT_ONCE: usize = 64;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How long a client may take to accept a reply.
const SLOW: Duration = Duration::from_secs(5);
/// How long accepting pauses when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Clients(Mutex<HashMap<IpAddr, usize>>);

pub(super) async fn serve(resolver: Arc<Resolver>, listener: TcpListener, shutdown: CancellationToken) {
    let clients = Arc::new(Clients::default());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = clients.enter(from.ip()) else {
            count(&resolver.metrics.refused_busy);
            continue;
        };
        let (resolver, shutdown) = (Arc::clone(&resolver), shutdown.clone());
        tasks.spawn(async move {
            converse(resolver, stream, from, shutdown).await;
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn converse(resolver: Arc<Resolver>, stream: TcpStream, from: SocketAddr, shutdown: CancellationToken) {
    // A reply is one small write.
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.into_split();
    let (replies, mut outgoing) = mpsc::channel::<Vec<u8>>(MOST_AT_ONCE);
    let write = async move {
        while let Some(reply) = outgoing.recv().await {
            if !matches!(timeout(SLOW, writer.write_all(&reply)).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    let read = async move {
        let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let bytes = tokio::select! {
                () = shutdown.cancelled() => return,
                () = replies.closed() => return,
                read = timeout(IDLE, message(&mut reader)) => match read {
                    Ok(Ok(bytes)) => bytes,
                    _ => return,
                },
            };
            answer(&resolver, &bytes, from, place, replies.clone()).await;
        }
    };
    tokio::join!(read, write);
}

async fn answer(
    resolver: &Arc<Resolver>,
    bytes: &[u8],
    from: SocketAddr,
    place: OwnedSemaphorePermit,
    replies: mpsc::Sender<Vec<u8>>,
) {
    let since = Instant::now();
    count(&resolver.metrics.tcp_requests);
    match question(bytes, &resolver.metrics) {
        Ok(asked) => {
            let resolver = Arc::clone(resolver);
            tokio::spawn(async move {
                let limit = usize::from(u16::MAX);
                let reply = Arc::clone(&resolver).reply(asked, from.ip(), limit).await;
                note(&resolver.metrics, &reply, since);
                // Who closed the connection doesn't want it any more.
                let _ = replies.send(framed(&reply)).await;
                drop(place);
            });
        }
        Err(Some(reply)) if resolver.admits(from.ip()) => {
            note(&resolver.metrics, &reply, since);
            let _ = replies.send(framed(&reply)).await;
        }
        Err(_) => {}
    }
}

async fn message(reader: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = reader.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    reader.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn framed(reply: &[u8]) -> Vec<u8> {
    let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], &reply[..usize::from(length)]].concat()
}

impl Clients {
    fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut clients = self.held();
        let all: usize = clients.values().sum();
        let own = clients.get(&client).copied().unwrap_or(0);
        if all >= MOST || own >= MOST_OF_ONE {
            return None;
        }
        clients.insert(client, own + 1);
        Some(Place {
            clients: Arc::clone(self),
            client,
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Place {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.clients.held();
        match clients.get_mut(&self.client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                clients.remove(&self.client);
            }
        }
    }
}
