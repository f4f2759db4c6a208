//! `toolbox tcp` and `toolbox udp`: one connection, one datagram.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use serde_json::json;

use crate::args::{self, Args};
use crate::client::{connect, resolve};
use crate::failure::Failure;
use crate::pattern;

const TCP_HELP: &str = "\
Connects to HOST PORT; with TEXT, sends it and prints what is echoed.

Usage: toolbox tcp [--timeout 5s] HOST PORT [TEXT]

Without TEXT it prints the two ends of the connection and closes it.
";

const UDP_HELP: &str = "\
Sends a datagram to HOST PORT and prints what is echoed.

Usage: toolbox udp [OPTIONS] HOST PORT [TEXT]

  --timeout DURATION  for each try [1s]
  --tries N           how often to send it at most [3]
  --size BYTES|mtu    instead of TEXT, send that many bytes; `mtu` is the most
                      that fits one packet on the way there; prints the number
  --json              print one line of JSON: {bytes, ms, error, code}
";

/// Runs `toolbox tcp`.
pub(crate) fn tcp(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, TCP_HELP)?;
    let limit = args
        .option("--timeout", args::duration)?
        .unwrap_or(Duration::from_secs(5));
    let rest = args.rest(2, 3)?;
    let deadline = Instant::now() + limit;
    let mut stream = connect(&rest[0], port(&rest[1])?, limit)?;
    let failed = |e: std::io::Error| Failure::from_io(&e, "waiting for the echo");
    let Some(text) = rest.get(2) else {
        let (local, peer) = (
            stream.local_addr().map_err(failed)?,
            stream.peer_addr().map_err(failed)?,
        );
        println!("connected from {local} to {peer}");
        return Ok(());
    };
    stream.write_all(text.as_bytes()).map_err(failed)?;
    let mut echoed = vec![0; text.len()];
    let mut got = 0;
    while got < echoed.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).map_err(failed)?;
        match stream.read(&mut echoed[got..]).map_err(failed)? {
            0 => return Err(Failure::CutOff("closed before everything was echoed".into())),
            n => got += n,
        }
        if Instant::now() > deadline {
            return Err(Failure::TimedOut("waiting for the echo"));
        }
    }
    compare(text.as_bytes(), &echoed)?;
    println!("{text}");
    Ok(())
}

/// Runs `toolbox udp`.
pub(crate) fn udp(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, UDP_HELP)?;
    let limit = args
        .option("--timeout", args::duration)?
        .unwrap_or(Duration::from_secs(1));
    let tries = args.option("--tries", args::number::<u32>)?.unwrap_or(3).max(1);
    let size = args.values("--size")?.pop();
    let as_json = args.switch("--json");
    let rest = args.rest(2, 3)?;
    let text = rest.get(2);
    if text.is_some() == size.is_some() {
        return Err(Failure::Usage("either TEXT or --size".into()));
    }
    let port = port(&rest[1])?;
    let begin = Instant::now();
    let exchanged = resolve(&rest[0], port, limit).and_then(|found| {
        let socket = socket_to(found[0])?;
        let payload = payload(&socket, found[0], text.map(String::as_str), size.as_deref())?;
        compare(&payload, &ask(&socket, &payload, limit, tries)?)?;
        Ok(payload.len())
    });
    if as_json {
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        println!(
            "{}",
            match &exchanged {
                Ok(bytes) => json!({"bytes": bytes, "ms": ms}),
                Err(e) => json!({"ms": ms, "error": e.to_string(), "code": e.code()}),
            }
        );
        return exchanged.map(drop).map_err(|e| Failure::Reported(e.code()));
    }
    let bytes = exchanged?;
    match text {
        Some(text) => println!("{text}"),
        None => println!("{bytes}"),
    }
    Ok(())
}

pub(crate) fn socket_to(to: SocketAddr) -> Result<UdpSocket, Failure> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(from)
        .and_then(|socket| socket.connect(to).map(|()| socket))
        .map_err(|e| Failure::from_io(&e, "finding a way there"))
}

fn payload(
    socket: &UdpSocket,
    to: SocketAddr,
    text: Option<&str>,
    size: Option<&str>,
) -> Result<Vec<u8>, Failure> {
    if let Some(text) = text {
        return Ok(text.as_bytes().to_vec());
    }
    let bytes = match size {
        Some("mtu") | None => mtu_payload(socket, to)?,
        Some(text) => args::size(text).map_err(|e| Failure::Usage(format!("--size: {e}")))?,
    };
    // No datagram is larger.
    let mut payload = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(65_507)];
    pattern::fill(0, &mut payload);
    Ok(payload)
}

/// Sends until something comes back.
fn ask(socket: &UdpSocket, payload: &[u8], limit: Duration, tries: u32) -> Result<Vec<u8>, Failure> {
    let mut buffer = vec![0; 64 << 10];
    let mut last = Failure::TimedOut("waiting for the echo");
    let failed = |e: std::io::Error| Failure::from_io(&e, "waiting for the echo");
    socket
        .set_read_timeout(Some(limit.max(Duration::from_millis(1))))
        .map_err(failed)?;
    for _ in 0..tries {
        match socket.send(payload).and_then(|_| socket.recv(&mut buffer)) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(buffer);
            }
            Err(e) => last = failed(e),
        }
        if last == Failure::Refused {
            return Err(last);
        }
    }
    Err(last)
}

/// The largest payload that one packet can carry to the socket's peer, as far
/// as this end knows.
fn mtu_payload(socket: &UdpSocket, to: SocketAddr) -> Result<u64, Failure> {
    if to.is_ipv4() {
        let mtu = getsockopt(socket, sockopt::IpMtu)
            .map_err(|e| Failure::Other(format!("the MTU towards {to}: {e}")))?;
        return Ok(u64::try_from(mtu).unwrap_or(0).saturating_sub(20 + 8));
    }
    let unknown = |what: String| Failure::Other(format!("the MTU towards {to}: {what}"));
    let local = socket.local_addr().map_err(|e| unknown(e.to_string()))?.ip();
    let name = nix::ifaddrs::getifaddrs()
        .map_err(|e| unknown(e.to_string()))?
        .find(|found| {
            let address = found.address.as_ref().and_then(|a| a.as_sockaddr_in6());
            address.is_some_and(|a| a.ip() == local)
        })
        .map(|found| found.interface_name)
        .ok_or_else(|| unknown(format!("no interface has {local}")))?;
    let path = format!("/sys/class/net/{name}/mtu");
    let text = std::fs::read_to_string(&path).map_err(|e| unknown(format!("{path}: {e}")))?;
    let mtu: u64 = text
        .trim()
        .parse()
        .map_err(|_| unknown(format!("{path}: {text:?}")))?;
    Ok(mtu.saturating_sub(40 + 8))
}

fn compare(sent: &[u8], echoed: &[u8]) -> Result<(), Failure> {
    if sent == echoed {
        return Ok(());
    }
    let at = sent.iter().zip(echoed).take_while(|(a, b)| a == b).count();
    let (there, back) = (sent.len(), echoed.len());
    Err(Failure::Content(format!(
        "sent {there} bytes, {back} came back, different from byte {at} on"
    )))
}

fn port(text: &str) -> Result<u16, Failure> {
    args::number(text).map_err(|_| Failure::Usage(format!("`{text}` is not a port")))
}
