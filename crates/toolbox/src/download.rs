//! `toolbox download`: one large body, watched while it arrives.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::args::{self, Args};
use crate::client::{Client, Url};
use crate::failure::Failure;
use crate::pattern;
use crate::wire::{Body, Length};

const HELP: &str = "\
Fetches one large URL, reports its progress and verifies what arrives.

Usage: toolbox download [OPTIONS] URL

  --stall DURATION  give up when nothing arrives for this long [10s]
  --size BYTES      how large the body must be, beside what its server says
  --verify          every byte must be what `toolbox serve` sends for ?size=
  --json            print one line of JSON at the end and no progress:
                    {bytes, seconds, longest_pause_ms, error, code}

A line a second says how far it is; the last line gives bytes, time and the
longest pause between two pieces, which is how long the network was away.
";

#[derive(Default)]
struct Tally {
    bytes: u64,
    longest_pause: Duration,
}

/// Runs `toolbox download`.
pub(crate) fn command(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, HELP)?;
    let stall = args
        .option("--stall", args::duration)?
        .unwrap_or(Duration::from_secs(10));
    let size = args.option("--size", args::size)?;
    let (verify, as_json) = (args.switch("--verify"), args.switch("--json"));
    let url = Url::parse(&args.rest(1, 1)?[0])?;
    let begin = Instant::now();
    let mut tally = Tally::default();
    let done = fetch(&url, stall, verify, !as_json, &mut tally).and_then(|()| match size {
        Some(size) if size != tally.bytes => Err(Failure::Content(format!(
            "{} bytes instead of {size}",
            tally.bytes
        ))),
        _ => Ok(()),
    });
    let seconds = begin.elapsed().as_secs_f64();
    let pause = tally.longest_pause.as_secs_f64() * 1e3;
    if as_json {
        let mut account = json!({"bytes": tally.bytes, "seconds": seconds, "longest_pause_ms": pause});
        if let Err(failure) = &done {
            account["error"] = json!(failure.to_string());
            account["code"] = json!(failure.code());
        }
        say(&account.to_string());
        return done.map_err(|failure| Failure::Reported(failure.code()));
    }
    let word = if done.is_ok() { "complete" } else { "incomplete" };
    say(&format!(
        "{word}: {} bytes in {seconds:.3} s, longest pause {pause:.0} ms",
        tally.bytes
    ));
    done
}

fn fetch(url: &Url, stall: Duration, verify: bool, progress: bool, tally: &mut Tally) -> Result<(), Failure> {
    let mut client = Client::connect(url, stall)?;
    let response = client.request("GET", &[], &[], false, stall)?;
    if response.status >= 400 {
        return Err(Failure::Status(response.status));
    }
    let whole = match response.length {
        Length::Fixed(bytes) => format!(" of {bytes}"),
        Length::Chunked | Length::UntilClose => String::new(),
    };
    let mut body = Body::new(&mut client.wire, response.length);
    let mut buffer = vec![0; 64 << 10];
    let (mut last, mut reported, mut second) = (Instant::now(), 0, 1);
    let begin = last;
    loop {
        body.wire().get_mut().expire_in(stall);
        let n = body
            .read(&mut buffer)
            .map_err(|e| Failure::from_io(&e, "waiting for more"))?;
        let now = Instant::now();
        tally.longest_pause = tally.longest_pause.max(now - last);
        last = now;
        if n == 0 {
            return Ok(());
        }
        if verify && let Some(at) = pattern::first_difference(tally.bytes, &buffer[..n]) {
            return Err(Failure::Content(format!("byte {at} differs")));
        }
        tally.bytes += n as u64;
        if progress && begin.elapsed().as_secs() >= second {
            second = begin.elapsed().as_secs();
            let rate = (tally.bytes - reported) as f64 / f64::from(1 << 20);
            say(&format!(
                "{second} s: {} bytes{whole}, {rate:.1} MiB/s",
                tally.bytes
            ));
            reported = tally.bytes;
            second += 1;
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}
