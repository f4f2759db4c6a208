//! `toolbox load`: requests at a steady rate; what failed, and how long it took.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

use crate::args::{self, Args};
use crate::client::{Client, Scheme, Url, connect};
use crate::failure::Failure;
use crate::wire::Body;

const HELP: &str = "\
Requests a URL over and over; reports failures and latencies.

Usage: toolbox load [OPTIONS] http://HOST[:PORT][/PATH] | tcp://HOST:PORT

  --seconds N           for how long [10]
  --rate N              requests a second over all connections; 0 is as many as
                        the server answers [0]
  --connections N       at once [1]
  --timeout DURATION    for each request [5s]
  --fresh               a new connection for every request
  --json                print one line of JSON

With tcp:// a request is one byte, which an echo server sends back; with --fresh
such a connection ends with a reset, so that no port has to wait.

With a rate, a request's time runs from the moment it was due: a server that
stalls isn't let off the requests that couldn't be made meanwhile. The exit
code is 1 if any request failed or had a status of 400 or above.
";

/// Requests that are measured are kept; a run is bounded so that they fit.
const LONGEST: f64 = 3600.0;

#[derive(Default)]
struct Tally {
    /// A kept connection answers within a few: whole ones would be too coarse.
    micros: Vec<f32>,
    failures: BTreeMap<String, u64>,
    first_failure: Option<f64>,
    last_failure: Option<f64>,
}

/// A connection that requests are made on.
enum Line {
    Http(Client),
    Echo(TcpStream),
}

#[derive(Clone)]
struct Plan {
    url: Url,
    begin: Instant,
    length: Duration,
    /// Between two requests of one connection; none without a rate.
    interval: Option<Duration>,
    timeout: Duration,
    fresh: bool,
}

/// Runs `toolbox load`.
pub(crate) fn command(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, HELP)?;
    let seconds = args.option("--seconds", args::number::<f64>)?.unwrap_or(10.0);
    let rate = args.option("--rate", args::number::<f64>)?.unwrap_or(0.0);
    let connections = args.option("--connections", args::number::<u32>)?.unwrap_or(1);
    let timeout = args
        .option("--timeout", args::duration)?
        .unwrap_or(Duration::from_secs(5));
    let (fresh, as_json) = (args.switch("--fresh"), args.switch("--json"));
    let url = Url::parse_any(&args.rest(1, 1)?[0], &[Scheme::Http, Scheme::Tcp])?;
    let sensible = seconds > 0.0
        && seconds <= LONGEST
        && (0.0..1e6).contains(&rate)
        && (1..=1000).contains(&connections);
    if !sensible {
        return Err(Failure::Usage(
            "--seconds is up to 3600, --rate below 1000000, --connections from 1 to 1000".into(),
        ));
    }
    let plan = Plan {
        url,
        begin: Instant::now(),
        length: Duration::from_secs_f64(seconds),
        interval: (rate > 0.0).then(|| Duration::from_secs_f64(f64::from(connections) / rate)),
        timeout,
        fresh,
    };
    let total = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for number in 0..connections {
            let (plan, total) = (&plan, &total);
            scope.spawn(move || {
                let phase = plan.interval.map(|i| i * number / connections);
                let tally = plan.run(phase.unwrap_or_default());
                if let Ok(mut total) = total.lock() {
                    total.add(tally);
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_default();
    total.micros.sort_unstable_by(f32::total_cmp);
    report(&total, plan.begin.elapsed(), as_json);
    if total.failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::Reported(1))
    }
}

impl Plan {
    /// One connection's requests.
    fn run(&self, phase: Duration) -> Tally {
        let mut tally = Tally::default();
        let mut line = None;
        let mut due = self.begin + phase;
        while due < self.begin + self.length {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let from = if self.interval.is_some() {
                due
            } else {
                Instant::now()
            };
            match self.request(&mut line) {
                Ok(()) => {
                    tally.micros.push(from.elapsed().as_secs_f32() * 1e6);
                }
                Err(failure) => {
                    line = None;
                    tally.fail(failure.to_string(), self.begin.elapsed().as_secs_f64());
                    // A refusal comes at once: don't turn it into a flood.
                    thread::sleep(Duration::from_millis(5));
                }
            }
            due = self.interval.map_or_else(Instant::now, |interval| due + interval);
        }
        tally
    }

    /// One request. A connection that was kept may have been closed meanwhile,
    /// as any server may: then, and only then, it is made again on a new one.
    fn request(&self, kept: &mut Option<Line>) -> Result<(), Failure> {
        let begin = Instant::now();
        if let Some(line) = kept.take() {
            match self.exchange(line, begin, kept) {
                Err(Failure::CutOff(_)) => {}
                other => return other,
            }
        }
        self.exchange(self.connect()?, begin, kept)
    }

    fn connect(&self) -> Result<Line, Failure> {
        if self.url.scheme == Scheme::Http {
            return Client::connect(&self.url, self.timeout).map(Line::Http);
        }
        let stream = connect(&self.url.host, self.url.port, self.timeout)?;
        let prepare = || -> io::Result<()> {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.timeout))?;
            if self.fresh {
                let reset = linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                setsockopt(&stream, sockopt::Linger, &reset)?;
            }
            Ok(())
        };
        prepare().map_err(|e| Failure::from_io(&e, "connecting"))?;
        Ok(Line::Echo(stream))
    }

    fn exchange(&self, line: Line, begin: Instant, kept: &mut Option<Line>) -> Result<(), Failure> {
        match line {
            Line::Http(client) => self.exchange_http(client, begin, kept),
            Line::Echo(mut stream) => {
                echo(&mut stream)?;
                if !self.fresh {
                    *kept = Some(Line::Echo(stream));
                }
                Ok(())
            }
        }
    }

    fn exchange_http(
        &self,
        mut client: Client,
        begin: Instant,
        kept: &mut Option<Line>,
    ) -> Result<(), Failure> {
        let left = self.timeout.saturating_sub(begin.elapsed());
        let response = client.request("GET", &[], &[], !self.fresh, left)?;
        let mut body = Body::new(&mut client.wire, response.length);
        // Cut off from here on is no stale connection.
        io::copy(&mut body, &mut io::sink()).map_err(|e| {
            match Failure::from_io(&e, "reading the answer") {
                Failure::CutOff(why) => Failure::Other(format!("cut off inside the body: {why}")),
                other => other,
            }
        })?;
        if response.stays && !self.fresh {
            *kept = Some(Line::Http(client));
        }
        if response.status >= 400 {
            return Err(Failure::Status(response.status));
        }
        Ok(())
    }
}

/// One byte there and back.
fn echo(stream: &mut TcpStream) -> Result<(), Failure> {
    const BYTE: [u8; 1] = *b"x";
    let mut back = [0];
    stream
        .write_all(&BYTE)
        .and_then(|()| stream.read_exact(&mut back))
        .map_err(|e| Failure::from_io(&e, "waiting for the echo"))?;
    if back != BYTE {
        return Err(Failure::Content(format!(
            "{BYTE:?} came back as {back:?}: is that an echo server?"
        )));
    }
    Ok(())
}

impl Tally {
    fn fail(&mut self, why: String, at: f64) {
        *self.failures.entry(why).or_default() += 1;
        self.first_failure.get_or_insert(at);
        self.last_failure = Some(at);
    }

    fn add(&mut self, other: Self) {
        self.micros.extend(other.micros);
        for (why, count) in other.failures {
            *self.failures.entry(why).or_default() += count;
        }
        let earliest = [self.first_failure, other.first_failure];
        self.first_failure = earliest.into_iter().flatten().reduce(f64::min);
        let latest = [self.last_failure, other.last_failure];
        self.last_failure = latest.into_iter().flatten().reduce(f64::max);
    }

    /// The latency, in milliseconds, that this share of requests kept to.
    fn quantile(&self, share: f64) -> f64 {
        let last = self.micros.len().saturating_sub(1);
        let at = (share * last as f64).round() as usize;
        self.micros.get(at).map_or(0.0, |micros| f64::from(*micros) / 1e3)
    }
}

fn report(total: &Tally, took: Duration, as_json: bool) {
    let failed: u64 = total.failures.values().sum();
    let answered = total.micros.len();
    let rate = answered as f64 / took.as_secs_f64();
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|share| total.quantile(share));
    let text = if as_json {
        json!({
            "answered": answered, "failed": failed, "seconds": took.as_secs_f64(), "rate": rate,
            "ms": {"p50": p50, "p90": p90, "p99": p99, "max": max},
            "failures": total.failures,
            "first_failure_s": total.first_failure, "last_failure_s": total.last_failure,
        })
        .to_string()
    } else {
        let mut text = format!(
            "{answered} answered, {failed} failed in {:.1} s ({rate:.1} a second)\n\
             latency ms: p50 {p50:.3}, p90 {p90:.3}, p99 {p99:.3}, max {max:.3}",
            took.as_secs_f64()
        );
        for (why, count) in &total.failures {
            text += &format!("\nfailed {count} times: {why}");
        }
        if let (Some(first), Some(last)) = (total.first_failure, total.last_failure) {
            text += &format!("\nfirst failure after {first:.1} s, last after {last:.1} s");
        }
        text
    };
    let _ = writeln!(io::stdout().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let mut tally = Tally::default();
        assert_eq!(tally.quantile(0.99), 0.0);
        tally.micros = (1_u16..=101).map(|n| f32::from(n) * 1e3).collect();
        assert_eq!(tally.quantile(0.5), 51.0);
        assert_eq!(tally.quantile(1.0), 101.0);
    }

    #[test]
    fn failures_add_up_over_connections() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        one.fail("x".into(), 3.0);
        two.fail("x".into(), 1.0);
        two.fail("y".into(), 2.0);
        one.add(two);
        assert_eq!(one.failures.values().sum::<u64>(), 3);
        assert_eq!((one.first_failure, one.last_failure), (Some(1.0), Some(3.0)));
    }
}
