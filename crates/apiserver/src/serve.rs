//! The listener: TLS, HTTP/1.1 and HTTP/2, and an orderly end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::identity::Identity;
use crate::auth::token_secrets;
use crate::definitions;
use crate::error::Error;
use crate::server::ApiServer;
use crate::tls::ServerTls;

/// How long a client may take to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection may take to send a request's head, idling before it included.
const IDLE: Duration = Duration::from_secs(90);
/// How long running requests may go on when the server shuts down.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Dead peers are noticed after about two of these.
const PING: Duration = Duration::from_secs(30);
/// Streams of one HTTP/2 connection. kube clients keep all their watches on one.
const STREAMS: u32 = 2000;

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl ApiServer {
    /// Serves the listener until `shutdown`; puts what every cluster has in place before.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: ServerTls,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        self.bootstrap().await?;
        let acceptor = TlsAcceptor::from(Arc::new(tls.config()?));
        let connections = TaskTracker::new();
        connections.spawn(definitions::clean_up(self.clone()));
        connections.spawn(token_secrets::keep(self.clone()));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let peer = Peer(peer.ip().to_canonical());
                    connections.spawn(connection(self.clone(), acceptor.clone(), stream, peer));
                }
                Err(error) if is_passing(&error) => {
                    // Out of file descriptors, or a client that gave up: others may be luckier soon.
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(Error::Accept(error)),
            }
        }
        drop(listener);
        self.stopping.cancel();
        connections.close();
        if tokio::time::timeout(LAST_WORDS, connections.wait())
            .await
            .is_err()
        {
            tracing::info!(left = connections.len(), "connections cut off");
        }
        Ok(())
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    // EMFILE and ENFILE have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24))
        || matches!(
            error.kind(),
            ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::Interrupted
                | ErrorKind::OutOfMemory
        )
}

/// One connection, from the handshake to its end.
async fn connection(server: Arc<ApiServer>, acceptor: TlsAcceptor, stream: TcpStream, peer: Peer) {
    // Watch events are small and shouldn't wait for each other.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            server.metrics.handshake_failed();
            return tracing::debug!(%error, "TLS handshake");
        }
        Err(_) => {
            server.metrics.handshake_failed();
            return tracing::debug!("TLS handshake took too long");
        }
    };
    let identity = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| Identity::from_certificate(chain.first()?));
    let stopping = server.stopping.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, identity) = (server.clone(), identity.clone());
        async move {
            let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            request.extensions_mut().insert(peer);
            Ok::<_, std::convert::Infallible>(server.handle(identity, request).await)
        }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(64 << 10);
    builder
}
