//! `/exec`, `/attach`, `/portForward`: the runtime prepares a stream and says
//! where; the client's upgrade is passed on to it, byte for byte, so whatever
//! protocol both speak (SPDY or WebSocket) works.

use std::num::NonZeroU16;
use std::sync::Arc;

use cri::message::{AttachRequest, ExecRequest};
use http::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::Answer;
use super::answer::{Refusal, whole};
use super::find;
use super::query::Query;
use crate::context::Context;
use crate::pod;
use crate::runtime::Observed;

/// Which ends of a stream are wanted. The API server's names and the user's
/// are both understood.
pub(super) struct Ends {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Ends {
    pub(super) fn of(query: &Query) -> Result<Self, Refusal> {
        let tty = query.flag(&["tty"]);
        let ends = Self {
            stdin: query.flag(&["input", "stdin"]),
            stdout: query.flag(&["output", "stdout"]),
            // A terminal has one output.
            stderr: query.flag(&["error", "stderr"]) && !tty,
            tty,
        };
        if !(ends.stdin || ends.stdout || ends.stderr) {
            return Err(Refusal::bad_request(
                "you must specify at least one of stdin, stdout, stderr",
            ));
        }
        Ok(ends)
    }
}

pub(super) async fn exec(
    ctx: &Arc<Context>,
    namespace: &str,
    name: &str,
    container: &str,
    request: Request<Incoming>,
) -> Answer {
    let query = Query::parse(request.uri().query());
    let ends = Ends::of(&query)?;
    let command = query.all("command");
    if command.is_empty() {
        return Err(Refusal::bad_request("you must specify a command"));
    }
    let wanted = ExecRequest {
        container_id: running(ctx, namespace, name, container).await?,
        cmd: command.to_vec(),
        tty: ends.tty,
        stdin: ends.stdin,
        stdout: ends.stdout,
        stderr: ends.stderr,
    };
    tunnel(ctx.cri.exec(wanted).await, request).await
}

pub(super) async fn attach(
    ctx: &Arc<Context>,
    namespace: &str,
    name: &str,
    container: &str,
    request: Request<Incoming>,
) -> Answer {
    let ends = Ends::of(&Query::parse(request.uri().query()))?;
    let (pod, observed) = find::container(ctx, namespace, name, container).await?;
    // Whether a container has a terminal was settled when it was made; a client that thinks otherwise
    // would wait for an output that never ends.
    let tty = pod::container(&pod, container).is_some_and(|c| c.tty.unwrap_or(false));
    let wanted = AttachRequest {
        container_id: run_of(&observed, name, container)?,
        stdin: ends.stdin,
        tty,
        stdout: ends.stdout,
        stderr: ends.stderr && !tty,
    };
    tunnel(ctx.cri.attach(wanted).await, request).await
}

pub(super) async fn port_forward(
    ctx: &Arc<Context>,
    namespace: &str,
    name: &str,
    request: Request<Incoming>,
) -> Answer {
    let ports = ports(&Query::parse(request.uri().query()))?;
    let (_, observed) = find::pod(ctx, namespace, name).await?;
    let sandbox = observed
        .sandbox()
        .ok_or_else(|| Refusal::bad_request(format!("pod {name:?} is not running: it has no sandbox")))?;
    tunnel(ctx.cri.port_forward(&sandbox.id, ports).await, request).await
}

/// The ports that are named in a query; none where they come with the streams.
pub(super) fn ports(query: &Query) -> Result<Vec<i32>, Refusal> {
    let ports = query.all("port").iter().chain(query.all("ports"));
    let ports = ports.flat_map(|ports| ports.split(','));
    let ports: Result<Vec<NonZeroU16>, _> = ports.map(str::parse).collect();
    let ports = ports.map_err(|_| Refusal::bad_request("port must be a number from 1 to 65535"))?;
    Ok(ports.into_iter().map(|port| port.get().into()).collect())
}

/// The id of a container's run that can be streamed to.
async fn running(ctx: &Context, namespace: &str, name: &str, container: &str) -> Result<String, Refusal> {
    let (_, observed) = find::container(ctx, namespace, name, container).await?;
    run_of(&observed, name, container)
}

fn run_of(observed: &Observed, name: &str, container: &str) -> Result<String, Refusal> {
    match observed.latest(container) {
        Some(run) if run.is_running() => Ok(run.id.clone()),
        Some(_) => Err(Refusal::bad_request(format!(
            "container {container:?} in pod {name:?} is not running"
        ))),
        None => Err(Refusal::bad_request(format!(
            "container {container:?} in pod {name:?} has not been started"
        ))),
    }
}

/// Headers that belong to one connection, and so are not passed on.
fn is_hop(name: &HeaderName) -> bool {
    *name == HOST || name.as_str() == "authorization"
}

/// Passes the client's upgrade on to where the runtime streams.
async fn tunnel(url: Result<String, cri::Error>, mut request: Request<Incoming>) -> Answer {
    let url = url.map_err(|error| Refusal::internal(error.to_string()))?;
    if !request.headers().contains_key(UPGRADE) {
        return Err(Refusal::bad_request("Upgrade request required"));
    }
    let url: Uri = url
        .parse()
        .map_err(|e| Refusal::internal(format!("the runtime streams from {url:?}: {e}")))?;
    let authority = url
        .authority()
        .ok_or_else(|| Refusal::internal("the runtime's stream has no address"))?;
    let behind = |error: &dyn std::fmt::Display| {
        Refusal::new(
            StatusCode::BAD_GATEWAY,
            format!("the runtime's stream at {authority}: {error}"),
        )
    };
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, port)).await.map_err(|e| behind(&e))?;
    stream.set_nodelay(true).ok();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| behind(&e))?;
    let driver = tokio::spawn(connection.with_upgrades());
    let onward = onward(&url, &request)?;
    let mut answer = sender.send_request(onward).await.map_err(|e| behind(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| behind(&e))?.to_bytes();
        driver.abort();
        return Ok(Response::from_parts(parts, whole(body)));
    }
    let theirs = hyper::upgrade::on(&mut answer);
    let ours = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (Ok(theirs), Ok(ours)) = tokio::join!(theirs, ours) else {
            return;
        };
        // Either end may simply go away; that is how streams end.
        copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs))
            .await
            .ok();
    });
    let mut response = Response::new(whole(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    Ok(response)
}

fn onward(url: &Uri, request: &Request<Incoming>) -> Result<Request<Empty<bytes::Bytes>>, Refusal> {
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let mut onward = Request::builder().method(request.method()).uri(path);
    let headers: &mut HeaderMap = onward
        .headers_mut()
        .ok_or_else(|| Refusal::internal("the runtime's stream has a bad address"))?;
    for (name, value) in request.headers().iter().filter(|(name, _)| !is_hop(name)) {
        headers.append(name, value.clone());
    }
    // hyper sends an upgrade only where both headers agree.
    headers
        .entry(CONNECTION)
        .or_insert(http::HeaderValue::from_static("Upgrade"));
    if let Some(authority) = url.authority().and_then(|a| a.as_str().parse().ok()) {
        headers.insert(HOST, authority);
    }
    onward
        .body(Empty::new())
        .map_err(|error| Refusal::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_that_ports_have() {
        let of = |text: &str| ports(&Query::parse(Some(text))).ok();
        assert_eq!(of("port=80&ports=443,8080"), Some(vec![80, 443, 8080]));
        assert_eq!(of(""), Some(vec![]));
        for wrong in ["port=0", "port=-1", "port=65536", "port=x", "port="] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
