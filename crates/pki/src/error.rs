//! What can go wrong, and what to do about it.

use std::io;
use std::path::PathBuf;

/// An error of the certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was being done, such as `cannot read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The authority's certificate is there without its key, so nothing can be issued.
    #[error("{} is missing: restore it beside ca.crt, or remove ca.crt for a new authority (every kubeconfig must then be written again)", path.display())]
    MissingAuthorityKey {
        /// The missing file.
        path: PathBuf,
    },
    /// The authority's files are not a usable certificate and key.
    #[error("{} is not a usable certificate authority: {reason}; restore it, or remove it with its key for a new one", path.display())]
    BrokenAuthority {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key of ServiceAccount tokens is there and unusable.
    #[error("{} is not a usable key: {reason}; restore it, or remove it for a new one", path.display())]
    BrokenTokenKey {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A subject alternative name is neither an IP address nor a DNS name.
    #[error("{name:?} is neither an IP address nor a DNS name, so no certificate can carry it")]
    BadName {
        /// The name as given.
        name: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {common_name:?}: {reason}")]
    Issue {
        /// The subject's common name.
        common_name: String,
        /// What the library said.
        reason: String,
    },
}
