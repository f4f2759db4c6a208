//! What the kubelet of a pod's node does: logs, exec, attach and port-forward.
//!
//! The server authenticates and authorises, finds the node, and passes the stream through:
//!
//! ```text
//! kubectl ══TLS, HTTP/1.1 Upgrade══► server ══TLS with the kubelet client's certificate══► kubelet
//!          stdin= stdout= …                    input= output= …
//! ```

pub(crate) mod fuzz;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::call::Call;
use crate::error::Error;
use crate::object::{self, list, text};
use crate::reply::{self, Body, Request, Response};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::tls::ClientTls;
use crate::{metrics, tunnel, websocket};

/// The kubelet's port, where a node doesn't say otherwise.
const PORT: u16 = 10250;
/// How long connecting to a kubelet may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a kubelet's error text is passed on.
const MAX_ERROR: usize = 16 << 10;
/// The WebSocket protocol of exec and attach that kubelets here speak; the first of those that clients of today use.
const WEBSOCKET: &str = "v4.channel.k8s.io";
/// Older ones, which containerd speaks as well.
const OLDER: [&str; 3] = [
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "v4.base64.channel.k8s.io",
];

/// The protocol of kubelets' streams that clients with SPDY speak.
const SPDY: &str = "SPDY/3.1";
/// SPDY's bytes in a WebSocket's messages, of port-forward: what kubectl begins with since 1.31.
const SPDY_IN_WEBSOCKET: &str = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD: &str = "portforward.k8s.io";

/// How to reach kubelets.
pub(crate) struct Kubelets {
    tls: TlsConnector,
}

/// A pod, and how to reach the kubelet that runs it.
struct Place {
    pod: Value,
    address: IpAddr,
    port: u16,
}

impl Kubelets {
    pub(crate) fn new(tls: &ClientTls) -> Result<Kubelets, Error> {
        let config = tls.config()?;
        Ok(Kubelets {
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// A connection that carries one request.
    async fn connect(&self, address: IpAddr, port: u16) -> Result<SendRequest<Body>, Failure> {
        let connecting = async {
            let stream = TcpStream::connect((address, port)).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(ServerName::from(address), stream).await
        };
        let unreachable = |why: &dyn std::fmt::Display| {
            Failure::internal(format!(
                "error dialing backend: the kubelet at {address}:{port}: {why}"
            ))
        };
        let stream = match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(stream) => stream.map_err(|error| unreachable(&error))?,
            Err(_) => return Err(unreachable(&"connecting took too long")),
        };
        handshake(stream).await.map_err(|error| unreachable(&error))
    }

    /// Connections with our certificate.
    pub(crate) fn connector(&self) -> &TlsConnector {
        &self.tls
    }

    async fn send(&self, place: &Place, request: Request) -> Result<http::Response<Incoming>, Failure> {
        let mut sender = self.connect(place.address, place.port).await?;
        sender.send_request(request).await.map_err(|error| {
            Failure::internal(format!(
                "error dialing backend: the kubelet at {}:{}: {error}",
                place.address, place.port
            ))
        })
    }
}

/// HTTP/1.1 over a connection.
pub(crate) async fn handshake<S>(stream: S) -> hyper::Result<SendRequest<Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend");
        }
    });
    Ok(sender)
}

pub(crate) fn kubelets(server: &ApiServer) -> Result<&Kubelets, Failure> {
    let kubelets = server.kubelets.as_ref();
    kubelets.ok_or_else(|| Failure::internal("the server has no credentials for kubelets"))
}

/// `GET pods/NAME/log`, for browsers' sake over a WebSocket, too.
pub(crate) async fn log(server: &ApiServer, call: &Call, request: Request) -> Result<Response, Failure> {
    let Some(place) = place(server, call)? else {
        // A pod without a node has no log, in Kubernetes' eyes.
        return Ok(reply::bytes(StatusCode::NO_CONTENT, "text/plain", ""));
    };
    let container = container(&place.pod, call)?;
    let path = log_path(call, &container)?;
    let outgoing = outward(&place, http::Method::GET, &path, HeaderMap::new())?;
    let response = kubelets(server)?.send(&place, outgoing).await?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let log = response.into_body().map_err(Into::into).boxed_unsync();
    if websocket::is_asked_for(request.headers()) {
        return websocket::tell(server, request, log);
    }
    let mut answer = reply::bytes(StatusCode::OK, "text/plain", "");
    *answer.body_mut() = log;
    Ok(answer)
}

fn log_path(call: &Call, container: &str) -> Result<String, Failure> {
    let parameters = [
        "follow",
        "limitBytes",
        "previous",
        "sinceSeconds",
        "sinceTime",
        "stream",
        "tailLines",
        "timestamps",
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in parameters {
        if let Some(value) = call.query.get(name) {
            query.append_pair(name, value);
        }
    }
    Ok(format!(
        "/containerLogs/{}/{container}?{}",
        pod_path(call)?,
        query.finish()
    ))
}

/// `exec`, `attach` and `portforward`: an upgraded connection, passed through byte for byte.
pub(crate) async fn stream(
    server: &ApiServer,
    call: &Call,
    subresource: &str,
    mut request: Request,
) -> Result<Response, Failure> {
    check_upgrade(request.headers(), subresource)?;
    let place = place(server, call)?.ok_or_else(|| {
        let name = call.name.as_deref().unwrap_or_default();
        Failure::bad_request(format!("pod {name} does not have a host assigned"))
    })?;
    let path = stream_path(&place.pod, call, subresource)?;
    if subresource == "portforward" && offers(request.headers(), SPDY_IN_WEBSOCKET) {
        return forward_in_messages(server, &place, &path, request).await;
    }
    let headers = upgrade_headers(request.headers());
    let outgoing = outward(&place, request.method().clone(), &path, headers)?;
    let held = metrics::held(&request);
    let near = hyper::upgrade::on(&mut request);
    let mut response = upgraded(server, &place, outgoing).await?;
    let far = hyper::upgrade::on(&mut response);
    tunnel::join(server, held, near, far);
    let mut answer = http::Response::new(reply::full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = upgrade_headers(response.headers());
    Ok(answer)
}

/// `portforward` over a WebSocket that ends here: the kubelet is spoken to in SPDY, whose bytes its messages carry.
async fn forward_in_messages(
    server: &ApiServer,
    place: &Place,
    path: &str,
    request: Request,
) -> Result<Response, Failure> {
    let headers = HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static(SPDY)),
        (
            HeaderName::from_static("x-stream-protocol-version"),
            HeaderValue::from_static(PORT_FORWARD),
        ),
    ]);
    let outgoing = outward(place, http::Method::POST, path, headers)?;
    let mut response = upgraded(server, place, outgoing).await?;
    let far = hyper::upgrade::on(&mut response);
    websocket::carry(server, request, SPDY_IN_WEBSOCKET, far)
}

/// The kubelet's answer to a request that it is to upgrade.
async fn upgraded(
    server: &ApiServer,
    place: &Place,
    request: Request,
) -> Result<http::Response<Incoming>, Failure> {
    let response = kubelets(server)?.send(place, request).await?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => Ok(response),
        _ => Err(refusal(response).await),
    }
}

/// Where the call's pod runs; `None` when it isn't bound to a node.
fn place(server: &ApiServer, call: &Call) -> Result<Option<Place>, Failure> {
    let key = object::key(&call.kind, call.namespace.as_deref(), call.name()?);
    let entry = server.store.get(&key)?;
    let entry = entry.ok_or_else(|| Failure::not_found(call.subject()))?;
    let pod = object::parse(&entry.value)?;
    let name = text(&pod, "/spec/nodeName");
    if name.is_empty() {
        return Ok(None);
    }
    let node = server
        .node(name)?
        .ok_or_else(|| Failure::internal(format!("the pod's node {name:?} does not exist")))?;
    let (address, port) = address(&node, name)?;
    Ok(Some(Place { pod, address, port }))
}

/// Where a node's kubelet listens.
pub(crate) fn address(node: &Value, name: &str) -> Result<(IpAddr, u16), Failure> {
    let address = list(node, "/status/addresses")
        .iter()
        .filter(|address| text(address, "/type") == "InternalIP")
        .find_map(|address| text(address, "/address").parse().ok())
        .ok_or_else(|| Failure::internal(format!("the node {name:?} has no InternalIP address")))?;
    let port = node
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .unwrap_or(PORT);
    Ok((address, port))
}

fn pod_path(call: &Call) -> Result<String, Failure> {
    let namespace = call.namespace.as_deref().unwrap_or_default();
    Ok(format!("{namespace}/{}", call.name()?))
}

/// The container that the call means: the one it names, or the pod's only one.
fn container(pod: &Value, call: &Call) -> Result<String, Failure> {
    let names = |field: &str| -> Vec<&str> {
        list(pod, field)
            .iter()
            .map(|container| text(container, "/name"))
            .collect()
    };
    let (containers, init) = (names("/spec/containers"), names("/spec/initContainers"));
    let pod_name = text(pod, "/metadata/name");
    match (call.query.get("container"), &containers[..]) {
        (Some(name), _) => {
            let known = containers.contains(&name)
                || init.contains(&name)
                || names("/spec/ephemeralContainers").contains(&name);
            if known {
                return Ok(name.to_owned());
            }
            let message = format!("container {name} is not valid for pod {pod_name}");
            Err(Failure::bad_request(message))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                containers.join(" ")
            );
            if !init.is_empty() {
                message += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            Err(Failure::bad_request(message))
        }
    }
}

/// The kubelet's path for a stream: its parameters have other names than the API's.
fn stream_path(pod: &Value, call: &Call, subresource: &str) -> Result<String, Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if subresource == "portforward" {
        for port in call.query.all("ports").flat_map(|ports| ports.split(',')) {
            query.append_pair("port", port);
        }
        return Ok(format!("/portForward/{}?{}", pod_path(call)?, query.finish()));
    }
    let container = container(pod, call)?;
    for command in call.query.all("command") {
        query.append_pair("command", command);
    }
    let mut streams = 0;
    for (name, kubelets) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        if call.query.flag(name) {
            query.append_pair(kubelets, "1");
            streams += usize::from(name != "tty");
        }
    }
    if streams == 0 {
        return Err(Failure::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(format!(
        "/{subresource}/{}/{container}?{}",
        pod_path(call)?,
        query.finish()
    ))
}

/// Whether the upgrade is one that kubelets speak. Newer WebSocket protocols are refused without an upgrade:
/// clients that have them then fall back to SPDY.
fn check_upgrade(headers: &HeaderMap, subresource: &str) -> Result<(), Failure> {
    let spdy = |protocol: &str| protocol.eq_ignore_ascii_case(SPDY);
    if websocket::values(headers, &header::UPGRADE).any(spdy) {
        return Ok(());
    }
    if !websocket::is_asked_for(headers) {
        return Err(Failure::bad_request("Upgrade request required"));
    }
    let offered: Vec<_> = websocket::values(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    let spoken = if subresource == "portforward" {
        [WEBSOCKET, PORT_FORWARD, SPDY_IN_WEBSOCKET]
            .iter()
            .any(|protocol| offered.contains(protocol))
    } else {
        offered
            .iter()
            .any(|protocol| *protocol == WEBSOCKET || OLDER.contains(protocol))
    };
    if spoken {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "unable to upgrade: unsupported WebSocket subprotocols [{}]; supported are SPDY/3.1, and {WEBSOCKET} over WebSocket",
        offered.join(" ")
    )))
}

fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    websocket::values(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == protocol)
}

/// The headers that an upgrade is made of, in both directions.
fn upgrade_headers(headers: &HeaderMap) -> HeaderMap {
    let stream_protocol = HeaderName::from_static("x-stream-protocol-version");
    let accepted = HeaderName::from_static("x-accepted-stream-protocol-versions");
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        let wanted = *name == header::CONNECTION
            || *name == header::UPGRADE
            || *name == stream_protocol
            || *name == accepted
            || name.as_str().starts_with("sec-websocket-");
        if wanted {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// A request to a kubelet.
fn outward(place: &Place, method: http::Method, path: &str, headers: HeaderMap) -> Result<Request, Failure> {
    let host = match place.address {
        IpAddr::V4(address) => format!("{address}:{}", place.port),
        IpAddr::V6(address) => format!("[{address}]:{}", place.port),
    };
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .body(reply::full(""))
        .map_err(Failure::internal)?;
    request.headers_mut().extend(headers);
    Ok(request)
}

/// A kubelet's refusal, as the API's.
async fn refusal(response: http::Response<Incoming>) -> Failure {
    let code = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MAX_ERROR);
    let why = match body.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        Err(_) => String::new(),
    };
    let why = match why.as_str() {
        "" => format!("the kubelet answered {code}"),
        why => why.to_owned(),
    };
    match code {
        StatusCode::BAD_REQUEST => Failure::bad_request(why),
        StatusCode::NOT_FOUND => Failure::new(code, "NotFound", why),
        StatusCode::FORBIDDEN => Failure::new(code, "Forbidden", why),
        _ => Failure::internal(why),
    }
}
