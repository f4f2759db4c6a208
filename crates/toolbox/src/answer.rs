//! What the HTTP server answers: pure, from a request to a [`Reply`].
//!
//! Everything but the health endpoints describes the request as the server saw
//! it; the query says how the answer is to behave.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::args;
use crate::clock;
use crate::drain::State;
use crate::head::Head;

/// Longer waits than this are refused: nothing here goes on for ever.
const LONGEST: Duration = Duration::from_secs(600);

/// A request: its first line taken apart, its headers, its body counted.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// The query as it was sent.
    pub(crate) raw_query: String,
    /// 0 for HTTP/1.0, which closes by default.
    pub(crate) minor: u8,
    pub(crate) head: Head,
}

/// The beginning of a request's body and its whole length.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) beginning: Vec<u8>,
}

/// Who talks to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// What this server knows about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) hostname: String,
    pub(crate) node: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) namespace: Option<String>,
}

/// An answer: what to do before it, and what to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) delay: Duration,
    /// How long to keep a processor busy first.
    pub(crate) load: Duration,
    pub(crate) body: Content,
}

/// A reply's body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// JSON or a line of text.
    Text(&'static str, String),
    /// This many bytes of the [pattern](crate::pattern).
    Pattern(u64),
    /// In so many chunks with pauses in between: the pattern, or one line each.
    Chunks {
        count: u64,
        interval: Duration,
        size: Option<u64>,
    },
}

impl Reply {
    /// A line of text.
    pub(crate) fn line(status: u16, text: &str) -> Self {
        Self {
            status,
            delay: Duration::ZERO,
            load: Duration::ZERO,
            body: Content::Text("text/plain; charset=utf-8", format!("{text}\n")),
        }
    }
}

impl Request {
    /// Takes the first line apart; an error is what to tell the client.
    pub(crate) fn parse(head: Head) -> Result<Self, (u16, String)> {
        let refuse = |status, why: &str| Err((status, why.to_owned()));
        let mut words = head.first.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return refuse(400, "the first line is not `METHOD TARGET HTTP/1.1`");
        };
        let minor = match version {
            "HTTP/1.1" => 1,
            "HTTP/1.0" => 0,
            _ => return refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here"),
        };
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_alphabetic()) {
            return refuse(400, "the method is not a word");
        }
        if minor == 1 && head.header("host").is_none() {
            return refuse(400, "HTTP/1.1 wants a Host header");
        }
        let Some(target) = origin_form(target) else {
            return refuse(400, "the target is neither a path nor an http:// URL");
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Self {
            method: method.to_owned(),
            path: decode(path, false),
            query: pairs(query),
            raw_query: query.to_owned(),
            minor,
            head,
        })
    }

    /// An option of the query, read by `read`.
    fn option<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        let given = self.query.iter().rev().find(|(key, _)| key == name);
        given
            .map(|(_, text)| read(text).map_err(|why| format!("?{name}: {why}")))
            .transpose()
    }
}

/// The path and query of a target; proxies send whole URLs.
fn origin_form(target: &str) -> Option<&str> {
    if target.starts_with('/') || target == "*" {
        return Some(target);
    }
    let rest = target.strip_prefix("http://")?;
    Some(rest.find('/').map_or("/", |at| &rest[at..]))
}

fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        })
        .collect()
}

/// Undoes percent-encoding; what isn't valid stays as it is.
fn decode(text: &str, plus: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let hex = |b: u8| (b as char).to_digit(16);
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                let value = hex(*high).unwrap_or(0) * 16 + hex(*low).unwrap_or(0);
                out.push(value as u8);
                rest = after;
            }
            (b'+', _) if plus => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The answer to a request.
pub(crate) fn answer(
    request: &Request,
    received: &Received,
    ends: Ends,
    identity: &Identity,
    state: &State,
) -> Reply {
    let reply = match request.path.as_str() {
        "/healthz" => health(request, &state.health),
        "/readyz" if state.draining() && request.method != "POST" => Ok(Reply::line(503, "draining")),
        "/readyz" => health(request, &state.ready),
        _ => describe(request, received, ends, identity),
    };
    reply.unwrap_or_else(|why| Reply::line(400, &why))
}

/// A health endpoint answers with the status that the last POST gave it.
fn health(request: &Request, status: &std::sync::atomic::AtomicU16) -> Result<Reply, String> {
    if request.method == "POST" {
        let new = request.option("status", status_code)?.unwrap_or(200);
        status.store(new, SeqCst);
        return Ok(Reply::line(
            200,
            &format!("{} answers {new} from now on", request.path),
        ));
    }
    let status = status.load(SeqCst);
    let text = if status < 400 {
        "ok"
    } else {
        "unhealthy by request"
    };
    Ok(Reply::line(status, text))
}

fn describe(
    request: &Request,
    received: &Received,
    ends: Ends,
    identity: &Identity,
) -> Result<Reply, String> {
    let wait = |name| Ok::<_, String>(request.option(name, bounded)?.unwrap_or_default());
    let size = request.option("size", args::size)?;
    let chunks = request.option("chunks", args::number::<u64>)?;
    let interval = wait("interval")?;
    let body = match (chunks, size) {
        (Some(0), _) => return Err("?chunks: at least one".into()),
        (Some(count), size) => Content::Chunks {
            count,
            interval,
            size,
        },
        (None, Some(size)) => Content::Pattern(size),
        (None, None) => {
            let text = format!("{}\n", description(request, received, ends, identity));
            Content::Text("application/json", text)
        }
    };
    Ok(Reply {
        status: request.option("status", status_code)?.unwrap_or(200),
        delay: wait("delay")?,
        load: wait("load")?,
        body,
    })
}

/// The request as this server saw it.
fn description(request: &Request, received: &Received, ends: Ends, identity: &Identity) -> Value {
    let mut headers = Map::new();
    for (name, value) in &request.head.headers {
        let name = name.to_ascii_lowercase();
        match headers.get_mut(&name) {
            Some(Value::String(before)) => {
                before.push_str(", ");
                before.push_str(value);
            }
            _ => drop(headers.insert(name, json!(value))),
        }
    }
    let mut whole = json!({
        "hostname": identity.hostname,
        "node": identity.node,
        "pod": identity.pod,
        "namespace": identity.namespace,
        "client_ip": ends.client.ip().to_canonical().to_string(),
        "client_port": ends.client.port(),
        "server_ip": ends.server.ip().to_canonical().to_string(),
        "server_port": ends.server.port(),
        "method": request.method,
        "path": request.path,
        "query": request.raw_query,
        "headers": headers,
        "time": clock::now(),
    });
    if received.bytes > 0 {
        whole["body_bytes"] = json!(received.bytes);
        whole["body"] = json!(String::from_utf8_lossy(&received.beginning));
    }
    whole
}

fn bounded(text: &str) -> Result<Duration, String> {
    let time = args::duration(text)?;
    if time > LONGEST {
        return Err(format!("`{text}` is longer than 10 minutes"));
    }
    Ok(time)
}

fn status_code(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|code| (200..600).contains(code))
        .ok_or_else(|| format!("`{text}` is not a status from 200 to 599"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(first: &str) -> Result<Request, (u16, String)> {
        let headers = vec![
            ("Host".into(), "a".into()),
            ("X-A".into(), "1".into()),
            ("x-a".into(), "2".into()),
        ];
        Request::parse(Head {
            first: first.into(),
            headers,
        })
    }

    fn reply(first: &str) -> Reply {
        let ends = Ends {
            client: "[::ffff:10.1.2.3]:4000".parse().unwrap(),
            server: "[fd00::1]:8080".parse().unwrap(),
        };
        let identity = Identity::default();
        let request = request(first).unwrap();
        answer(&request, &Received::default(), ends, &identity, &State::default())
    }

    fn json(first: &str) -> Value {
        match reply(first).body {
            Content::Text(_, text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_answer_describes_the_request() {
        let json = json("GET /a%20b?x=1+2 HTTP/1.1");
        assert_eq!(json["client_ip"], "10.1.2.3");
        assert_eq!(json["client_port"], 4000);
        assert_eq!(json["server_ip"], "fd00::1");
        assert_eq!(json["path"], "/a b");
        assert_eq!(json["query"], "x=1+2");
        assert_eq!(json["headers"]["x-a"], "1, 2");
        assert_eq!(json["node"], Value::Null);
    }

    #[test]
    fn the_query_says_how_to_answer() {
        let slow = reply("GET /?delay=500ms&status=503&load=10ms HTTP/1.1");
        assert_eq!(slow.status, 503);
        assert_eq!(slow.delay, Duration::from_millis(500));
        assert_eq!(slow.load, Duration::from_millis(10));
        assert_eq!(reply("GET /?size=1KiB HTTP/1.1").body, Content::Pattern(1024));
        assert_eq!(
            reply("GET /?chunks=3&interval=1s&size=9 HTTP/1.1").body,
            Content::Chunks {
                count: 3,
                interval: Duration::from_secs(1),
                size: Some(9)
            }
        );
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for query in [
            "delay=2h",
            "delay=x",
            "status=99",
            "size=-1",
            "chunks=0",
            "interval=",
        ] {
            assert_eq!(reply(&format!("GET /?{query} HTTP/1.1")).status, 400, "{query}");
        }
    }

    #[test]
    fn malformed_first_lines_are_refused() {
        for (first, status) in [
            ("", 400),
            ("GET /", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET / HTTP/1.1 x", 400),
            ("GET / HTTP/2.0", 505),
            ("GET relative HTTP/1.1", 400),
            ("G\u{e9}T / HTTP/1.1", 400),
        ] {
            assert_eq!(request(first).unwrap_err().0, status, "{first}");
        }
        assert_eq!(request("GET http://h/p?q HTTP/1.1").unwrap().path, "/p");
    }

    #[test]
    fn health_follows_what_was_posted_and_readiness_ends_with_draining() {
        let state = State::default();
        let ends = Ends {
            client: ([127, 0, 0, 1], 1).into(),
            server: ([127, 0, 0, 1], 2).into(),
        };
        let ask = |first: &str| {
            let request = request(first).unwrap();
            answer(&request, &Received::default(), ends, &Identity::default(), &state).status
        };
        assert_eq!(ask("GET /healthz HTTP/1.1"), 200);
        assert_eq!(ask("POST /healthz?status=500 HTTP/1.1"), 200);
        assert_eq!(ask("GET /healthz HTTP/1.1"), 500);
        assert_eq!(ask("POST /healthz HTTP/1.1"), 200);
        assert_eq!(ask("GET /healthz HTTP/1.1"), 200);
        assert_eq!(ask("GET /readyz HTTP/1.1"), 200);
        state.drain();
        assert_eq!(ask("GET /readyz HTTP/1.1"), 503);
        assert_eq!(ask("GET / HTTP/1.1"), 200);
    }
}
