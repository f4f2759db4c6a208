//! TLS configurations from PEM text.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::error::Error;

/// Credentials for connections to kubelets, as PEM text.
#[derive(Clone)]
pub struct ClientTls {
    /// The authority that kubelets' certificates come from.
    pub ca_pem: String,
    /// The client certificate.
    pub cert_pem: String,
    /// Its key.
    pub key_pem: String,
}

/// Credentials for the server's own listener, as PEM text.
#[derive(Clone)]
pub struct ServerTls {
    /// The authority that clients' certificates must come from.
    pub ca_pem: String,
    /// The server's certificate.
    pub cert_pem: String,
    /// Its key.
    pub key_pem: String,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(what: &'static str, pem: &str) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, pem)? {
        roots.add(certificate).map_err(|error| refuse(what, error))?;
    }
    Ok(Arc::new(roots))
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(found) if found.is_empty() => Err(refuse(what, "the PEM text holds no certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(refuse(what, error)),
    }
}

fn key(what: &'static str, pem: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| refuse(what, error))
}

fn refuse(what: &'static str, why: impl std::fmt::Display) -> Error {
    Error::Certificate {
        what,
        why: why.to_string(),
    }
}

impl ServerTls {
    /// Clients may come without a certificate, for health checks; one that they show must be the cluster's.
    pub(crate) fn config(&self) -> Result<ServerConfig, Error> {
        let roots = roots("cluster's authority", &self.ca_pem)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| refuse("cluster's authority", error))?;
        let chain = certificates("server", &self.cert_pem)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse("server", error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key("server", &self.key_pem)?)
            .map_err(|error| refuse("server", error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ClientTls {
    pub(crate) fn config(&self) -> Result<ClientConfig, Error> {
        let roots = roots("cluster's authority", &self.ca_pem)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| refuse("cluster's authority", error))?;
        let chain = certificates("kubelet client", &self.cert_pem)?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse("kubelet client", error))?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(chain, key("kubelet client", &self.key_pem)?)
            .map_err(|error| refuse("kubelet client", error))?;
        // Upgrades need HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
