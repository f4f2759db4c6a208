//! Who calls, and whether they may.

use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::answer::Refusal;
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

    /// Whether the caller may do anything here.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let Some(name) = &self.name else {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "Unauthorized: a client certificate of the cluster is required",
            ));
        };
        if name == API_SERVER || self.groups.iter().any(|g| g == ADMINISTRATORS) {
            return Ok(());
        }
        let message = format!(
            "Forbidden (user={name}): only the API server and members of {ADMINISTRATORS} may use a kubelet"
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, message))
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
    fn only_the_api_server_and_administrators_get_in() {
        let status = |c: Caller| {
            c.check()
                .map_or_else(|r| r.into_response().status().as_u16(), |()| 200)
        };
        assert_eq!(status(caller(Some(API_SERVER), &[])), 200);
        assert_eq!(status(caller(Some("me"), &["a", "system:masters"])), 200);
        assert_eq!(status(caller(Some("system:node:node-1"), &["system:nodes"])), 403);
        assert_eq!(status(Caller::default()), 401);
    }
}
