//! The kubelet's API: what `kubectl logs`, `exec`, `attach` and `port-forward`
//! reach by way of the API server.
//!
//! | path | what |
//! | --- | --- |
//! | `/healthz` | whether the kubelet is alive |
//! | `/pods` | the node's pods, their newest status included |
//! | `/containerLogs/NAMESPACE/POD/CONTAINER` | a container's log |
//! | `/exec`, `/attach` `/NAMESPACE/POD/CONTAINER` | streams, tunnelled to the runtime |
//! | `/portForward/NAMESPACE/POD` | likewise |
//! | `/logs/` | the node's `/var/log` |
//! | `/metrics` | a few numbers for Prometheus |
//! | `/metrics/resource`, `/stats/summary` | what the node, its pods and their containers use |
//! | `/flows` | conversations of the node's pods, as the network tells of them |
//!
//! Everyone has to bring a certificate of the cluster's authority, or a token of the API's. The API
//! server and administrators may do everything; the API is asked what others may ([`access`]).

mod access;
mod answer;
mod find;
pub(crate) mod fuzz;
mod identity;
mod log;
mod node_logs;
mod query;
mod stream;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(crate) use self::access::Answers;
use self::access::Asked;
use self::answer::{Refusal, text};
use self::identity::Caller;
use crate::Error;
use crate::config::Config;
use crate::context::Context;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// An answer's body: whole, or as it comes.
type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Answer = Result<Response<Body>, Refusal>;

/// The API, listening and not yet answering.
pub(crate) struct Server {
    listeners: Vec<TcpListener>,
    acceptor: TlsAcceptor,
}

impl Server {
    /// Reads the certificates and begins to listen.
    pub(crate) async fn bind(config: &Config) -> Result<Self, Error> {
        let acceptor = TlsAcceptor::from(Arc::new(identity::tls(config)?));
        let mut listeners = Vec::new();
        for &address in &config.listen {
            let listener = TcpListener::bind(address).await;
            listeners.push(listener.map_err(|source| Error::Listen { address, source })?);
        }
        Ok(Self { listeners, acceptor })
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self, ctx: Arc<Context>) {
        let accepting = self
            .listeners
            .into_iter()
            .map(|listener| accept(listener, &self.acceptor, &ctx));
        join_all(accepting).await;
    }
}

/// Takes connections of one address for ever.
async fn accept(listener: TcpListener, acceptor: &TlsAcceptor, ctx: &Arc<Context>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (acceptor, ctx) = (acceptor.clone(), Arc::clone(ctx));
                    connections.spawn(serve(stream, acceptor, ctx));
                }
                // Out of descriptors, most likely: some will come free.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, ctx: Arc<Context>) {
    stream.set_nodelay(true).ok();
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a client could not shake hands"),
        Err(_) => return tracing::debug!("a client took too long to shake hands"),
    };
    let caller = Arc::new(Caller::of(stream.get_ref().1));
    let service = service_fn(move |request| {
        let (ctx, caller) = (Arc::clone(&ctx), Arc::clone(&caller));
        async move { Ok::<_, Infallible>(answer(&ctx, &caller, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection broke off");
    }
}

async fn answer(ctx: &Arc<Context>, caller: &Caller, request: Request<Incoming>) -> Response<Body> {
    let answer = match access::check(ctx, caller, Asked::of(&request)).await {
        Ok(()) => route(ctx, request).await,
        Err(refusal) => Err(refusal),
    };
    answer.unwrap_or_else(Refusal::into_response)
}

/// A path's parts, as they were meant.
fn parts(path: &str) -> Vec<String> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    let decode = |part| percent_encoding::percent_decode_str(part).decode_utf8_lossy();
    parts.map(|part| decode(part).into_owned()).collect()
}

async fn route(ctx: &Arc<Context>, request: Request<Incoming>) -> Answer {
    let parts = parts(request.uri().path());
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    let streams = is_get || request.method() == Method::POST;
    match parts.as_slice() {
        ["healthz"] if is_get => Ok(text("text/plain; charset=utf-8", "ok")),
        ["metrics"] if is_get => Ok(text(
            "text/plain; version=0.0.4; charset=utf-8",
            ctx.metrics.text() + &ctx.network.metrics().await,
        )),
        ["metrics", "resource"] if is_get => answer::resource(ctx).await,
        ["stats", "summary"] if is_get => answer::summary(ctx).await,
        ["flows"] if is_get => answer::flows(ctx, request.uri().query()),
        ["pods"] if is_get => answer::pods(ctx),
        ["logs", below @ ..] if is_get => node_logs::serve(below, &request).await,
        ["containerLogs", namespace, pod, container] if is_get => {
            log::serve(ctx, namespace, pod, container, request.uri().query()).await
        }
        ["exec", namespace, pod, container] if streams => {
            stream::exec(ctx, namespace, pod, container, request).await
        }
        ["attach", namespace, pod, container] if streams => {
            stream::attach(ctx, namespace, pod, container, request).await
        }
        ["portForward", namespace, pod] if streams => {
            stream::port_forward(ctx, namespace, pod, request).await
        }
        [
            "healthz" | "metrics" | "stats" | "flows" | "pods" | "logs" | "containerLogs" | "exec" | "attach"
            | "portForward",
            ..,
        ] => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method or path not allowed here",
        )),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
    }
}
