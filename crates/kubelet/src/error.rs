use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the kubelet could not start. What goes wrong with single pods is told
/// in their status and events instead, and tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder that the kubelet keeps its things in can't be made.
    #[error("cannot prepare {}: {source} (does the agent run as root?)", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A certificate or key can't be used.
    #[error("cannot use {}: {message}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The kubelet's API can't listen.
    #[error("cannot listen on {address}: {source} (is another kubelet running on this node?)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's answer.
        source: std::io::Error,
    },
}
