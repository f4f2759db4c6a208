//! One question to some servers: over UDP, over TCP where the answer is too long; to the next
//! server when one doesn't answer soon.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Asked;
use super::servers::Servers;
use super::way::Way;
use crate::metrics::{Metrics, count};
use crate::wire::{MAX_UDP, Packet, Unfit};

/// After that another try is made, at the next server; the earlier one may still answer.
const SOON: Duration = Duration::from_millis(700);
/// Clients ask again after 5 seconds.
const IN_ALL: Duration = Duration::from_millis(4500);
/// How often one server is asked.
const TRIES: usize = 2;

/// Why a server's answer is none.
#[derive(Debug)]
enum Trouble {
    /// It can't be reached, or what it says can't be understood.
    Broken,
    /// It doesn't know.
    Failed(ResponseCode),
}

/// Asks until one of the servers answers.
pub(super) async fn exchange(
    asked: &Asked,
    servers: &Servers,
    order: &[SocketAddr],
    way: &Way,
    metrics: &Metrics,
) -> Result<Packet, ()> {
    let end = Instant::now() + IN_ALL;
    let mut tries = order.iter().copied().cycle().take(order.len() * TRIES).peekable();
    let mut running = FuturesUnordered::new();
    let mut latest: Option<SocketAddr> = None;
    let mut next_at = Instant::now();
    loop {
        let more = tries.peek().is_some();
        if running.is_empty() && !more {
            return Err(());
        }
        tokio::select! {
            biased;
            Some((server, outcome)) = running.next() => match outcome {
                Ok(packet) => {
                    servers.answered(server);
                    return Ok(packet);
                }
                Err(Trouble::Failed(code)) => {
                    servers.answered(server);
                    count(&metrics.upstream_refusals);
                    tracing::debug!(%server, name = %asked.name, %code, "doesn't know");
                    next_at = Instant::now();
                }
                Err(Trouble::Broken) => {
                    servers.failed(server);
                    count(&metrics.upstream_failures);
                    latest = latest.filter(|latest| *latest != server);
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if more => {
                // It may answer yet; but others are asked first from now on.
                if let Some(server) = latest.take() {
                    servers.failed(server);
                    count(&metrics.upstream_failures);
                }
                if let Some(server) = tries.next() {
                    count(&metrics.upstream_queries);
                    latest = Some(server);
                    running.push(async move { (server, one(asked, server, way, end).await) });
                }
                next_at = Instant::now() + SOON;
            }
            () = sleep_until(end) => {
                latest.into_iter().for_each(|server| servers.failed(server));
                return Err(());
            }
        }
    }
}

/// Asks one server; a second time in the old way if it doesn't understand.
async fn one(asked: &Asked, server: SocketAddr, way: &Way, end: Instant) -> Result<Packet, Trouble> {
    let work = async {
        let packet = udp_or_tcp(&query(asked, true)?, server, way).await?;
        let packet = match packet.code() {
            ResponseCode::FormErr | ResponseCode::NotImp => {
                udp_or_tcp(&query(asked, false)?, server, way).await?
            }
            _ => packet,
        };
        match packet.code() {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(packet),
            code => Err(Trouble::Failed(code)),
        }
    };
    timeout_at(end, work).await.unwrap_or(Err(Trouble::Broken))
}

fn query(asked: &Asked, modern: bool) -> Result<Vec<u8>, Trouble> {
    let mut message = Message::query();
    message.metadata.id = rand::random();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = asked.checking_disabled;
    message.add_query(Query::query(asked.name.clone(), asked.kind));
    if modern {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP).set_dnssec_ok(asked.signed);
        message.set_edns(edns);
    }
    message.to_vec().map_err(|_| Trouble::Broken)
}

async fn udp_or_tcp(query: &[u8], server: SocketAddr, way: &Way) -> Result<Packet, Trouble> {
    match udp(query, server, way).await {
        Err(Unfit::CutShort) => tcp(query, server, way).await,
        outcome => outcome,
    }
    .map_err(|_| Trouble::Broken)
}

async fn udp(query: &[u8], server: SocketAddr, way: &Way) -> Result<Packet, Unfit> {
    let broken = |_| Unfit::Broken;
    let socket = way.datagrams(server).await.map_err(broken)?;
    socket.send(query).await.map_err(broken)?;
    // More than servers were told to send at most; 64 KiB for each question that waits would add up.
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(broken)?;
        match Packet::read(&buffer[..length], query) {
            // Somebody else's, or an old one: the right one may come yet.
            Err(Unfit::Other) => {}
            outcome => return outcome,
        }
    }
}

async fn tcp(query: &[u8], server: SocketAddr, way: &Way) -> Result<Packet, Unfit> {
    let work = async {
        let mut stream = way.connection(server).await?;
        let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
        let message = [&length.to_be_bytes()[..], query].concat();
        stream.write_all(&message).await?;
        let length = stream.read_u16().await?;
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await?;
        std::io::Result::Ok(reply)
    };
    let reply = work.await.map_err(|_| Unfit::Broken)?;
    Packet::read(&reply, query)
}
