//! `toolbox flood`: as much as gets through, counted where it arrives.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::args::{self, Args};
use crate::client::{Scheme, Url, connect, resolve};
use crate::failure::Failure;
use crate::probe::socket_to;
use crate::sink::QUESTION;

const HELP: &str = "\
Sends as much as gets through to a `toolbox serve --sink`; reports what arrived.

Usage: toolbox flood [OPTIONS] tcp://HOST:PORT | udp://HOST:PORT

  --seconds N           for how long [10]
  --streams N           TCP connections at once [1]
  --size BYTES          of each write or datagram [128KiB, 64]
  --json                print one line of JSON: {received, seconds, rate}, in
                        bytes for TCP and datagrams for UDP, there with {sent}

Bytes and datagrams are those that the other side has counted.
";

const LONGEST: f64 = 3600.0;
/// How long the other side may take to say what it has counted.
const PATIENCE: Duration = Duration::from_secs(10);

struct Plan {
    url: Url,
    length: Duration,
    streams: u32,
    size: usize,
}

/// What was sent and what arrived: bytes of TCP, datagrams of UDP.
struct Tally {
    sent: Option<u64>,
    received: u64,
    took: Duration,
}

/// Runs `toolbox flood`.
pub(crate) fn command(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, HELP)?;
    let seconds = args.option("--seconds", args::number::<f64>)?.unwrap_or(10.0);
    let streams = args.option("--streams", args::number::<u32>)?.unwrap_or(1);
    let size = args.option("--size", args::size)?;
    let as_json = args.switch("--json");
    let url = Url::parse_any(&args.rest(1, 1)?[0], &[Scheme::Tcp, Scheme::Udp])?;
    let tcp = url.scheme == Scheme::Tcp;
    let (usual, most) = if tcp { (128 << 10, 16 << 20) } else { (64, 65_507) };
    let size = size.unwrap_or(usual);
    let sensible = seconds > 0.0
        && seconds <= LONGEST
        && (1..=most).contains(&size)
        && (1..=if tcp { 500 } else { 1 }).contains(&streams);
    // One byte is a question.
    if !sensible || (!tcp && size == 1) {
        return Err(Failure::Usage(
            "--seconds is up to 3600; --streams up to 500 of TCP, one of UDP; --size up to 16MiB of TCP, from 2 to 65507 of UDP".into(),
        ));
    }
    let plan = Plan {
        url,
        length: Duration::from_secs_f64(seconds),
        streams,
        size: usize::try_from(size).unwrap_or(usize::MAX),
    };
    let tally = if tcp { plan.tcp()? } else { plan.udp()? };
    println!("{}", tally.describe(as_json));
    Ok(())
}

impl Plan {
    /// Connects all streams first, so that they run at the same time.
    fn tcp(&self) -> Result<Tally, Failure> {
        let mut streams = Vec::new();
        for _ in 0..self.streams {
            streams.push(connect(&self.url.host, self.url.port, PATIENCE)?);
        }
        let begin = Instant::now();
        let end = begin + self.length;
        let counts = thread::scope(|scope| {
            let threads: Vec<_> = streams
                .into_iter()
                .map(|stream| scope.spawn(move || self.stream(stream, end)))
                .collect();
            let counts = threads.into_iter().map(|thread| {
                let lost = |_| Failure::Other("a stream's thread ended without a count".into());
                thread.join().map_err(lost).and_then(|count| count)
            });
            counts.sum::<Result<u64, Failure>>()
        });
        Ok(Tally {
            sent: None,
            received: counts?,
            took: begin.elapsed(),
        })
    }

    /// Fills one stream until `end`; what the other side counted.
    fn stream(&self, mut stream: TcpStream, end: Instant) -> Result<u64, Failure> {
        let piece = vec![b'x'; self.size];
        let failed = |e: io::Error| Failure::from_io(&e, "sending");
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut sent = 0;
        while Instant::now() < end {
            stream.write_all(&piece).map_err(failed)?;
            sent += piece.len() as u64;
        }
        stream.shutdown(Shutdown::Write).map_err(failed)?;
        let mut answer = String::new();
        let read = stream.take(32).read_to_string(&mut answer);
        read.map_err(|e| Failure::from_io(&e, "waiting for the count"))?;
        let received = count(&answer)?;
        if received == sent {
            Ok(received)
        } else {
            Err(Failure::Content(format!("{sent} bytes sent, {received} arrived")))
        }
    }

    fn udp(&self) -> Result<Tally, Failure> {
        let found = resolve(&self.url.host, self.url.port, PATIENCE)?;
        let socket = socket_to(found[0])?;
        let before = ask(&socket)?;
        let datagram = vec![b'x'; self.size];
        let begin = Instant::now();
        let mut sent = 0;
        while begin.elapsed() < self.length {
            // Looking at the clock costs a part of what sending does.
            for _ in 0..32 {
                match socket.send(&datagram) {
                    Ok(_) => sent += 1,
                    // A full queue isn't an end: datagrams get lost.
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                    Err(e) => return Err(Failure::from_io(&e, "sending")),
                }
            }
        }
        let took = begin.elapsed();
        let received = ask(&socket)?.saturating_sub(before);
        Ok(Tally {
            sent: Some(sent),
            received,
            took,
        })
    }
}

/// How many datagrams the other side has counted so far.
fn ask(socket: &UdpSocket) -> Result<u64, Failure> {
    const TRIES: u32 = 20;
    let limit = PATIENCE / TRIES;
    let mut buffer = [0; 32];
    let mut last = Failure::TimedOut("waiting for the count");
    let failed = |e: io::Error| Failure::from_io(&e, "waiting for the count");
    socket.set_read_timeout(Some(limit)).map_err(failed)?;
    for _ in 0..TRIES {
        match socket.send(QUESTION).and_then(|_| socket.recv(&mut buffer)) {
            Ok(n) => return count(&String::from_utf8_lossy(&buffer[..n])),
            Err(e) => last = failed(e),
        }
        if last == Failure::Refused {
            break;
        }
    }
    Err(last)
}

/// What the other side says that it has counted.
fn count(text: &str) -> Result<u64, Failure> {
    text.trim()
        .parse()
        .map_err(|_| Failure::Content(format!("{text:?} is no count: is that `toolbox serve --sink`?")))
}

impl Tally {
    fn describe(&self, as_json: bool) -> String {
        let seconds = self.took.as_secs_f64();
        let rate = self.received as f64 / seconds;
        if as_json {
            let mut account: Value = json!({"received": self.received, "seconds": seconds, "rate": rate});
            if let Some(sent) = self.sent {
                account["sent"] = json!(sent);
            }
            return account.to_string();
        }
        match self.sent {
            Some(sent) => format!(
                "{} of {sent} datagrams arrived in {seconds:.1} s ({rate:.0} a second)",
                self.received
            ),
            None => format!(
                "{} bytes arrived in {seconds:.1} s ({:.2} Gbit/s)",
                self.received,
                rate * 8e-9
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_number_and_nothing_else() {
        assert_eq!(count("12\n"), Ok(12));
        for bad in ["", "x", "?", "-1", "1 2"] {
            assert!(matches!(count(bad), Err(Failure::Content(_))), "{bad}");
        }
    }

    #[test]
    fn rates_are_of_what_arrived() {
        let mut tally = Tally {
            sent: Some(10),
            received: 8,
            took: Duration::from_secs(2),
        };
        assert_eq!(
            tally.describe(false),
            "8 of 10 datagrams arrived in 2.0 s (4 a second)"
        );
        let account: Value = serde_json::from_str(&tally.describe(true)).unwrap();
        assert_eq!(
            account,
            json!({"sent": 10, "received": 8, "seconds": 2.0, "rate": 4.0})
        );
        (tally.sent, tally.received) = (None, 1_000_000_000);
        assert_eq!(
            tally.describe(false),
            "1000000000 bytes arrived in 2.0 s (4.00 Gbit/s)"
        );
    }
}
