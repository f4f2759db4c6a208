//! Connections to what is proxied.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
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
    let unreachable = |why: &dyn std::fmt::Display| {
        Failure::unavailable(format!("error trying to reach service: {}: {why}", place.address))
    };
    let exchange = async {
        let stream: Box<dyn Stream> = match tokio::time::timeout(PATIENCE, connect(server, place)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(unreachable(&"connecting took too long")),
        };
        let mut sender = kubelet::handshake(stream)
            .await
            .map_err(|error| unreachable(&error))?;
        let answer = sender.send_request(request).await;
        answer.map_err(|error| unreachable(&error))
    };
    exchange.await
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(server: &ApiServer, place: &Place) -> Result<Box<dyn Stream>, Failure> {
    let unreachable = |error: std::io::Error| {
        Failure::unavailable(format!(
            "error trying to reach service: {}: {error}",
            place.address
        ))
    };
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
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Insecure(Arc::new(config).into()))
    }
}

/// Takes any certificate, but only from who has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
