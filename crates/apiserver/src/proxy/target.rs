//! Connections to what is proxied.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::place::{Place, Speaks};
use crate::kubelet;
use crate::reply::Request;
use crate::server::ApiServer;
use crate::status::Failure;

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a request; the connection is for it alone.
pub(super) async fn send(
    server: &ApiServer,
    place: &Place,
    request: Request,
) -> Result<http::Response<Incoming>, Failure> {
    let stream = match tokio::time::timeout(PATIENCE, connect(server, place)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(unreachable(place, "connecting took too long")),
    };
    let handshake = kubelet::handshake(stream).await;
    let mut sender = handshake.map_err(|error| unreachable(place, error))?;
    let answer = sender.send_request(request).await;
    answer.map_err(|error| unreachable(place, error))
}

fn unreachable(place: &Place, why: impl Display) -> Failure {
    Failure::unavailable(format!("error trying to reach service: {}: {why}", place.address))
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(server: &ApiServer, place: &Place) -> Result<Box<dyn Stream>, Failure> {
    let unreachable = |error: io::Error| unreachable(place, error);
    let stream = TcpStream::connect(place.address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let tls = match place.speaks {
        Speaks::Http => return Ok(Box::new(stream)),
        Speaks::Https => &server.insecure.0,
        Speaks::Kubelet => kubelet::kubelets(server)?.connector(),
    };
    let name = ServerName::from(place.address.ip());
    let stream = tls.connect(name, stream).await.map_err(unreachable)?;
    Ok(Box::new(stream))
}

/// How pods are spoken to over TLS: they have certificates of their own making, and whoever may use the proxy
/// trusts them, as with Kubernetes.
pub(crate) struct Insecure(tokio_rustls::TlsConnector);

impl Insecure {
    pub(crate) fn new() -> Result<Insecure, rustls::Error> {
        let mut config = pki::trusting()?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Insecure(Arc::new(config).into()))
    }
}
