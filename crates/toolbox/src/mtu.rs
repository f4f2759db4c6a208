//! `toolbox mtu`: what a path carries, and whether it says so when that is less.
//!
//! A datagram that may not be fragmented either arrives, and is echoed; or something on the way
//! says that it's too big, and how big one may be; or it's lost without a word, which is what
//! breaks connections. So the largest that arrives is looked for, and then one byte more is sent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu, ipv6_mtu, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use serde_json::{Value, json};

use crate::args::{self, Args};
use crate::failure::Failure;
use crate::pattern;

const HELP: &str = "\
Finds out the largest packet that gets whole to each ADDRESS:PORT, where a
server echoes UDP, and whether one byte more is refused or lost.

Usage: toolbox mtu [OPTIONS] ADDRESS:PORT...

  --timeout DURATION  for each try [500ms]
  --tries N           how often to send before it counts as lost [5]
  --json              print one line of JSON for each:
                      {to, link, link_mtu, carries, larger, error}

`larger` is `refused` (the sender is told), `lost` (it isn't) or `arrived`.
";

/// No path of either family may carry less.
const LEAST_V4: u32 = 576;
const LEAST_V6: u32 = 1280;

/// What became of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrived,
    Refused,
    Lost,
}

impl Fate {
    const fn name(self) -> &'static str {
        match self {
            Fate::Arrived => "arrived",
            Fate::Refused => "refused",
            Fate::Lost => "lost",
        }
    }
}

/// What was found out about a path.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    link: String,
    link_mtu: u32,
    /// None if nothing arrives at all.
    carries: Option<u32>,
    /// What became of one byte more.
    larger: Fate,
}

/// Runs `toolbox mtu`.
pub(crate) fn command(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, HELP)?;
    let limit = args.option("--timeout", args::duration)?;
    let limit = limit
        .unwrap_or(Duration::from_millis(500))
        .max(Duration::from_millis(1));
    let tries = args.option("--tries", args::number::<u32>)?.unwrap_or(5).max(1);
    let as_json = args.switch("--json");
    let targets: Vec<SocketAddr> = args
        .rest(1, 1000)?
        .iter()
        .map(|text| {
            let usage = |_| {
                Failure::Usage(format!(
                    "`{text}` is not an address and a port, as 10.244.0.2:9000 or [fd00::2]:9000"
                ))
            };
            text.parse().map_err(usage)
        })
        .collect::<Result<_, Failure>>()?;
    // All at once: those that lose packets take their time.
    let found: Vec<Result<Found, Failure>> = thread::scope(|scope| {
        let one = |to: &SocketAddr| {
            let to = *to;
            scope.spawn(move || Path::open(to, limit, tries).and_then(|path| path.measure()))
        };
        let measured: Vec<_> = targets.iter().map(one).collect();
        let broken = |_| Err(Failure::Other("the measurement broke off".into()));
        measured
            .into_iter()
            .map(|measured| measured.join().unwrap_or_else(broken))
            .collect()
    });
    let mut code = 0;
    for (to, found) in targets.iter().zip(&found) {
        match found {
            Err(failure) => code = failure.code(),
            Ok(found) if found.carries.is_none() => code = Failure::TimedOut("").code(),
            Ok(_) => {}
        }
        if as_json {
            println!("{}", in_json(*to, found));
        } else {
            println!("{}", in_words(*to, found));
        }
    }
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::Reported(code))
    }
}

fn in_json(to: SocketAddr, found: &Result<Found, Failure>) -> Value {
    match found {
        Ok(found) => json!({
            "to": to, "link": found.link, "link_mtu": found.link_mtu,
            "carries": found.carries, "larger": found.larger.name(),
        }),
        Err(failure) => json!({"to": to, "error": failure.to_string()}),
    }
}

fn in_words(to: SocketAddr, found: &Result<Found, Failure>) -> String {
    match found {
        Err(failure) => format!("{to}: {failure}"),
        Ok(Found { carries: None, .. }) => format!("{to}: nothing arrives"),
        Ok(Found {
            link,
            link_mtu,
            carries: Some(carries),
            larger,
        }) => {
            format!(
                "{to}: {carries} bytes by {link} (MTU {link_mtu}); larger ones are {}",
                larger.name()
            )
        }
    }
}

/// A path to a server that echoes.
struct Path {
    socket: UdpSocket,
    to: SocketAddr,
    limit: Duration,
    tries: u32,
}

impl Path {
    fn open(to: SocketAddr, limit: Duration, tries: u32) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::from_io(&error, "finding a way there");
        let any: IpAddr = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).map_err(failed)?;
        // Never fragmented, and sent whatever was learnt earlier.
        let set = if to.is_ipv4() {
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)
        } else {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)
        };
        set.map_err(|error| failed(error.into()))?;
        socket.connect(to).map_err(failed)?;
        socket.set_read_timeout(Some(limit)).map_err(failed)?;
        Ok(Self {
            socket,
            to,
            limit,
            tries,
        })
    }

    fn measure(&self) -> Result<Found, Failure> {
        let (link, link_mtu) = self.link()?;
        let mut size = link_mtu;
        let mut refused = None;
        loop {
            match self.send(size)? {
                Fate::Arrived => break,
                Fate::Refused => {
                    // By a link or router that takes less than was thought; it said how much.
                    let told = self.told().min(size - 1);
                    refused = Some(size);
                    size = told.max(self.least());
                    if refused == Some(size) {
                        return Ok(Found {
                            link,
                            link_mtu,
                            carries: None,
                            larger: Fate::Refused,
                        });
                    }
                }
                Fate::Lost => {
                    let carries = self.largest_below(size)?;
                    return Ok(Found {
                        link,
                        link_mtu,
                        carries,
                        larger: Fate::Lost,
                    });
                }
            }
        }
        let larger = match refused {
            // It was refused just now.
            Some(refused) if refused == size + 1 => Fate::Refused,
            _ => self.send(size + 1)?,
        };
        Ok(Found {
            link,
            link_mtu,
            carries: Some(size),
            larger,
        })
    }

    /// The largest that arrives although larger ones are lost without a word.
    fn largest_below(&self, lost: u32) -> Result<Option<u32>, Failure> {
        let (mut good, mut bad) = (self.least(), lost);
        if self.send(good)? != Fate::Arrived {
            return Ok(None);
        }
        while bad > good + 1 {
            let middle = good + (bad - good) / 2;
            match self.send(middle)? {
                Fate::Arrived => good = middle,
                Fate::Refused | Fate::Lost => bad = middle,
            }
        }
        Ok(Some(good))
    }

    /// Sends a packet of that many bytes, headers and all, until something comes back.
    fn send(&self, size: u32) -> Result<Fate, Failure> {
        let mut payload = vec![0; self.payload(size)];
        pattern::fill(0, &mut payload);
        let mut buffer = vec![0; 64 << 10];
        for _ in 0..self.tries {
            match self.socket.send(&payload) {
                Ok(_) => {}
                Err(error) if is_too_big(&error) => return Ok(Fate::Refused),
                Err(error) => return Err(Failure::from_io(&error, "sending")),
            }
            let deadline = Instant::now() + self.limit;
            while Instant::now() < deadline {
                match self.socket.recv(&mut buffer) {
                    // Echoes of earlier tries may be late.
                    Ok(length) if buffer[..length] == payload => return Ok(Fate::Arrived),
                    Ok(_) => {}
                    Err(error) if is_too_big(&error) => return Ok(Fate::Refused),
                    Err(error) => match Failure::from_io(&error, "waiting for the echo") {
                        Failure::TimedOut(_) => break,
                        failure => return Err(failure),
                    },
                }
            }
        }
        Ok(Fate::Lost)
    }

    fn payload(&self, size: u32) -> usize {
        let headers = if self.to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        usize::try_from(size.saturating_sub(headers))
            .unwrap_or(0)
            .min(65_507)
    }

    const fn least(&self) -> u32 {
        if self.to.is_ipv4() { LEAST_V4 } else { LEAST_V6 }
    }

    /// What this end has been told that the path carries.
    fn told(&self) -> u32 {
        let told = if self.to.is_ipv4() {
            ip_mtu(&self.socket)
        } else {
            ipv6_mtu(&self.socket)
        };
        told.unwrap_or(u32::MAX)
    }

    /// The link that it leaves by, and its MTU.
    fn link(&self) -> Result<(String, u32), Failure> {
        let unknown = |what: String| Failure::Other(format!("the link towards {}: {what}", self.to));
        let local = self.socket.local_addr().map_err(|e| unknown(e.to_string()))?.ip();
        let name = nix::ifaddrs::getifaddrs()
            .map_err(|e| unknown(e.to_string()))?
            .find(|found| has(found.address.as_ref(), local))
            .map(|found| found.interface_name)
            .ok_or_else(|| unknown(format!("no interface has {local}")))?;
        let path = format!("/sys/class/net/{name}/mtu");
        let text = std::fs::read_to_string(&path).map_err(|e| unknown(format!("{path}: {e}")))?;
        let mtu = text
            .trim()
            .parse()
            .map_err(|_| unknown(format!("{path}: {text:?}")))?;
        Ok((name, mtu))
    }
}

fn has(address: Option<&nix::sys::socket::SockaddrStorage>, wanted: IpAddr) -> bool {
    let Some(address) = address else { return false };
    let v4 = address.as_sockaddr_in().map(|found| IpAddr::V4(found.ip()));
    let v6 = address.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip()));
    v4.or(v6) == Some(wanted)
}

fn is_too_big(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMSGSIZE as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_said_in_words_and_in_json() {
        let to: SocketAddr = "10.244.0.2:9000".parse().unwrap();
        let found = |carries, larger| {
            Ok(Found {
                link: "eth0".into(),
                link_mtu: 1500,
                carries,
                larger,
            })
        };
        assert_eq!(
            in_words(to, &found(Some(1450), Fate::Refused)),
            "10.244.0.2:9000: 1450 bytes by eth0 (MTU 1500); larger ones are refused"
        );
        assert_eq!(
            in_words(to, &found(None, Fate::Lost)),
            "10.244.0.2:9000: nothing arrives"
        );
        let json = in_json(to, &found(Some(1400), Fate::Lost));
        assert_eq!(json["carries"], 1400);
        assert_eq!(json["larger"], "lost");
        assert_eq!(in_json(to, &Err(Failure::Refused))["to"], "10.244.0.2:9000");
    }

    #[test]
    fn loopback_carries_what_it_says_and_its_own_end_refuses_more() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok((length, from)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(&buffer[..length], from);
            }
        });
        let path = Path::open(to, Duration::from_secs(2), 3).unwrap();
        let found = path.measure().unwrap();
        assert_eq!((found.link.as_str(), found.link_mtu), ("lo", 65536));
        // No datagram is larger than 65507 bytes and its headers.
        assert!(found.carries.unwrap() >= 65535, "{found:?}");
    }

    #[test]
    fn who_does_not_echo_is_found_out_in_the_end() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = Path::open(silent.local_addr().unwrap(), Duration::from_millis(5), 1).unwrap();
        let found = path.measure().unwrap();
        assert_eq!((found.carries, found.larger), (None, Fate::Lost));
    }
}
