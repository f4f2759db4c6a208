//! Who calls, and whether they may.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Error;
use crate::config::Config;

/// The API server's name when it calls kubelets.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
/// The group of administrators.
const ADMINISTRATORS: &str = "system:masters";

/// The TLS settings: our certificate, and their authority.
pub(super) fn tls(config: &Config) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&config.client_ca)? {
        roots.add(certificate).map_err(|e| bad(&config.client_ca, e))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        // Who brings none is told so in HTTP, which reads better than an alert.
        .allow_unauthenticated()
        .build()
        .map_err(|e| bad(&config.client_ca, e))?;
    let chain = certificates(&config.server_cert)?;
    let key = PrivateKeyDer::from_pem_file(&config.server_key).map_err(|e| bad(&config.server_key, e))?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&config.server_cert, e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| bad(&config.server_cert, e))?;
    // Streams are upgrades, which HTTP/2 doesn't have.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|e| bad(path, e))?
        .collect();
    let all = all.map_err(|e| bad(path, e))?;
    if all.is_empty() {
        return Err(bad(path, "there is no certificate in it"));
    }
    Ok(all)
}

fn bad(path: &Path, message: impl ToString) -> Error {
    Error::Certificate {
        path: path.to_owned(),
        message: message.to_string(),
    }
}

/// Who is at the other end of a connection. A certificate that is here was
/// signed by the cluster's authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    name: Option<String>,
    groups: Vec<String>,
}

impl Caller {
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        certificate.and_then(|c| Self::read(c)).unwrap_or_default()
    }

    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().find_map(|n| n.as_str().ok());
        let groups = subject.iter_organization().filter_map(|n| n.as_str().ok());
        Some(Self {
            name: name.map(str::to_owned),
            groups: groups.map(str::to_owned).collect(),
        })
    }

    /// Who the API said that it is.
    pub(super) fn named(name: String, groups: Vec<String>) -> Self {
        Self {
            name: Some(name),
            groups,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Whether the caller may do everything here, whatever the API says.
    pub(super) fn is_trusted(&self) -> bool {
        self.name.as_deref() == Some(API_SERVER) || self.groups.iter().any(|g| g == ADMINISTRATORS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: Option<&str>, groups: &[&str]) -> Caller {
        Caller {
            name: name.map(str::to_owned),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        }
    }

    #[test]
    fn the_api_server_and_administrators_are_trusted() {
        assert!(caller(Some(API_SERVER), &[]).is_trusted());
        assert!(caller(Some("me"), &["a", "system:masters"]).is_trusted());
        assert!(!caller(Some("system:node:node-1"), &["system:nodes"]).is_trusted());
        assert!(!Caller::default().is_trusted());
    }
}
