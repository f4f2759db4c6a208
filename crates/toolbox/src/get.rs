//! `toolbox get`: fetches URLs and prints what they answer.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::args::{self, Args};
use crate::client::{Client, Url};
use crate::failure::Failure;
use crate::wire::Body;

const HELP: &str = "\
Fetches URLs over HTTP and prints what they answer, in the order given.

Usage: toolbox get [OPTIONS] URL...

  --timeout DURATION  for each URL, everything included [5s]
  --post TEXT         POST this text
  --header 'K: V'     send a header; may be given again
  --field NAME        print this field of the JSON that comes back, nothing else
  --status            print the HTTP status only; no status is a failure
  --parallel          fetch all of them at once
  --json              print one line of JSON per URL, failures too:
                      {url, status, ms, bytes, body, error, code}

The exit code is that of the first URL that failed; `toolbox --help` lists them.
";

/// No answer larger than this is held in memory; `download` streams.
const MOST: u64 = 16 << 20;

struct Options {
    timeout: Duration,
    method: &'static str,
    body: Vec<u8>,
    headers: Vec<String>,
}

/// Runs `toolbox get`.
pub(crate) fn command(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, HELP)?;
    let post = args.values("--post")?.pop();
    let options = Options {
        timeout: args
            .option("--timeout", args::duration)?
            .unwrap_or(Duration::from_secs(5)),
        method: if post.is_some() { "POST" } else { "GET" },
        body: post.unwrap_or_default().into_bytes(),
        headers: args.values("--header")?,
    };
    let field = args.values("--field")?.pop();
    let (status_only, as_json) = (args.switch("--status"), args.switch("--json"));
    let parallel = args.switch("--parallel");
    if let Some(bad) = options
        .headers
        .iter()
        .find(|h| !h.contains(':') || h.contains(['\r', '\n']))
    {
        return Err(Failure::Usage(format!("--header {bad:?}: not `Name: value`")));
    }
    let urls = args.rest(1, usize::MAX)?;
    let parsed: Vec<Url> = urls
        .iter()
        .map(|text| Url::parse(text))
        .collect::<Result<_, _>>()?;
    let report = |text: &str, (fetched, took): Fetched| {
        if as_json {
            print(&format!("{}\n", account(text, &fetched, took)));
            // An HTTP status is what was asked for here; having none is not.
            return fetched
                .map(drop)
                .map_err(|failure| Failure::Reported(failure.code()));
        }
        let shown = fetched.and_then(|(status, body)| show(status, &body, status_only, field.as_deref()));
        shown.map_err(|failure| {
            eprintln!("toolbox: {text}: {failure}");
            Failure::Reported(failure.code())
        })
    };
    if !parallel {
        let outcomes = urls
            .iter()
            .zip(&parsed)
            .map(|(text, url)| report(text, fetch(url, &options)));
        return outcomes.fold(Ok(()), Result::and);
    }
    thread::scope(|scope| {
        let options = &options;
        let start = |url| scope.spawn(move || fetch(url, options));
        let running: Vec<_> = parsed.iter().map(start).collect();
        let outcomes = urls.iter().zip(running).map(|(text, thread)| {
            let panicked = |_| (Err(Failure::Other("a thread ended".into())), Duration::ZERO);
            report(text, thread.join().unwrap_or_else(panicked))
        });
        outcomes.fold(Ok(()), Result::and)
    })
}

/// Status and body, or why not, and how long that took.
type Fetched = (Result<(u16, Vec<u8>), Failure>, Duration);

fn fetch(url: &Url, options: &Options) -> Fetched {
    let begin = Instant::now();
    let fetched = exchange(url, options);
    (fetched, begin.elapsed())
}

fn exchange(url: &Url, options: &Options) -> Result<(u16, Vec<u8>), Failure> {
    let begin = Instant::now();
    let mut client = Client::connect(url, options.timeout)?;
    let left = options.timeout.saturating_sub(begin.elapsed());
    let response = client.request(options.method, &options.headers, &options.body, false, left)?;
    let mut body = Vec::new();
    Body::new(&mut client.wire, response.length)
        .take(MOST + 1)
        .read_to_end(&mut body)
        .map_err(|e| Failure::from_io(&e, "reading the answer"))?;
    if body.len() as u64 > MOST {
        return Err(Failure::Other(
            "the answer is larger than 16 MiB; `toolbox download` takes it".into(),
        ));
    }
    Ok((response.status, body))
}

fn show(status: u16, body: &[u8], status_only: bool, field: Option<&str>) -> Result<(), Failure> {
    if status_only {
        print(&format!("{status}\n"));
        return Ok(());
    }
    if let Some(name) = field {
        let answer: Value =
            serde_json::from_slice(body).map_err(|_| Failure::Content("the answer is not JSON".into()))?;
        match &answer[name] {
            Value::Null => return Err(Failure::Content(format!("the answer has no `{name}`"))),
            Value::String(text) => print(&format!("{text}\n")),
            other => print(&format!("{other}\n")),
        }
    } else {
        let _ = io::stdout().lock().write_all(body);
    }
    if status >= 400 {
        return Err(Failure::Status(status));
    }
    Ok(())
}

fn account(url: &str, fetched: &Result<(u16, Vec<u8>), Failure>, took: Duration) -> Value {
    let ms = took.as_secs_f64() * 1e3;
    match fetched {
        Ok((status, body)) => {
            let text = || Value::String(String::from_utf8_lossy(body).into_owned());
            let content = serde_json::from_slice(body).unwrap_or_else(|_| text());
            json!({"url": url, "status": status, "ms": ms, "bytes": body.len(), "body": content})
        }
        Err(failure) => {
            json!({"url": url, "ms": ms, "error": failure.to_string(), "code": failure.code()})
        }
    }
}

fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}
