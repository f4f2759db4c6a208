//! Answers load balancers that ask a node whether it has endpoints of a Service: `spec.healthCheckNodePort`.
//!
//! 200 if it has, 503 if not, and the count as JSON, as kube-proxy says it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::state::Name;

/// How long somebody may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The ports that are asked at.
#[derive(Default)]
pub(crate) struct Ports {
    open: BTreeMap<u16, Port>,
}

struct Port {
    answer: Arc<RwLock<Answer>>,
    _listening: DropGuard,
}

/// What is answered at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) service: Name,
    pub(crate) local: usize,
}

const LOCK: &str = "no code panics while it holds an answer";

impl Ports {
    /// Opens, changes and closes ports until they are as wanted.
    pub(crate) fn set(&mut self, wanted: BTreeMap<u16, Answer>) {
        self.open.retain(|port, _| wanted.contains_key(port));
        for (port, answer) in wanted {
            match self.open.get(&port) {
                Some(open) => *open.answer.write().expect(LOCK) = answer,
                None => {
                    self.open.insert(port, Port::open(port, answer));
                }
            }
        }
    }
}

impl Port {
    fn open(port: u16, answer: Answer) -> Self {
        let (answer, stop) = (Arc::new(RwLock::new(answer)), CancellationToken::new());
        tokio::spawn(listen(port, answer.clone(), stop.clone()));
        Self {
            answer,
            _listening: stop.drop_guard(),
        }
    }
}

async fn listen(port: u16, answer: Arc<RwLock<Answer>>, stop: CancellationToken) {
    let mut said = false;
    let listener = loop {
        match bind(port).await {
            Ok(listener) => break listener,
            Err(error) if !said => {
                warn!(port, %error, "load balancers can't ask at this port; trying again");
                said = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, answer.clone()));
            }
            Err(error) => {
                debug!(port, %error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Both families with one socket, where the node has both.
async fn bind(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

async fn serve(stream: TcpStream, answer: Arc<RwLock<Answer>>) {
    let service = service_fn(move |_| {
        let answer = answer.read().expect(LOCK).clone();
        async move { Ok::<_, std::convert::Infallible>(response(&answer)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "a load balancer's question");
    }
}

fn response(answer: &Answer) -> Response<Full<Bytes>> {
    let (namespace, name) = &answer.service;
    let body = json!({
        "service": { "namespace": namespace, "name": name },
        "localEndpoints": answer.local,
        "serviceProxyHealthy": true,
    });
    let mut response = Response::new(Full::new(body.to_string().into()));
    if answer.local == 0 {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    let json = header::HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(
        "x-content-type-options",
        header::HeaderValue::from_static("nosniff"),
    );
    headers.insert("x-load-balancing-endpoint-weight", answer.local.into());
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(port: u16) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Waits for an answer that fits.
    async fn until(port: u16, fits: impl Fn(&std::io::Result<String>) -> bool) {
        let wait = async {
            while !fits(&ask(port).await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_says_whether_it_has_endpoints() {
        // Nobody else is given it while it is held.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let answer = |local| Answer {
            service: ("default".to_owned(), "web".to_owned()),
            local,
        };
        let mut ports = Ports::default();
        ports.set([(port, answer(2))].into());
        until(port, |text| {
            text.as_ref().is_ok_and(|text| {
                text.starts_with("HTTP/1.1 200")
                    && text.contains("\"localEndpoints\":2")
                    && text.contains("x-load-balancing-endpoint-weight: 2")
            })
        })
        .await;
        ports.set([(port, answer(0))].into());
        until(port, |text| {
            text.as_ref().is_ok_and(|text| text.starts_with("HTTP/1.1 503"))
        })
        .await;
        ports.set(BTreeMap::new());
        until(port, |text| text.is_err()).await;
    }
}
