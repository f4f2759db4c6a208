//! The network part of the agent: keeps the kernel as the cluster wants it, and attaches pods.
//!
//! ```text
//! snapshots ──► follow ──► plan ──► difference from the last plan ──► DataPlane
//! Services ───► services ──► one part each, of those that changed ──► DataPlane
//!     other nodes ──► answers ─┘  (those that don't answer)
//! Policies ───► policies ──► what changes in their tables ──► DataPlane
//! plugin ──► server ──► attach: Ipam (journal) ──► isolation, one part of the plan ──► DataPlane
//! ```
//!
//! - **At start** the kernel is read and only what differs is written: a restart on an unchanged
//!   cluster writes nothing. After that a plan is compared with the last one.
//! - **ADD and DEL** write one part of the plan, side by side; a change of the cluster waits for
//!   those under way, and they for it.
//! - **Ready** means: this node has blocks of pod addresses, and the kernel holds the policies and the plan. What is
//!   ready stays ready while the API is away.

mod answers;
mod attach;
mod counters;
mod dataplane;
#[cfg(test)]
mod fake;
mod flows;
mod follow;
mod keyed;
mod left_out;
mod node_kernel;
mod policies;
mod reconcile;
mod report;
mod review;
mod server;
mod services;
#[cfg(test)]
mod tests;
mod translated;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use kubelet::NetworkStatus;
use model::{Attachment, AttachmentId, NodeFacts, PodNetwork};
use plan::ServiceContext;
use tokio::sync::{RwLock, watch};

use crate::config::AgentConfig;
use crate::flows::Flows;
use crate::ipam::{self, Ipam};
use crate::policies::Policies;
use crate::{clock, conflist};

pub use counters::{Counters, Counts};
pub use dataplane::DataPlane;
pub use node_kernel::NodeKernel;
pub use server::Server;
pub use services::Services;

use answers::Notes;
use keyed::Keyed;
use left_out::LeftOut;

/// Why the network part can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal of addresses.
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The plugin's socket.
    #[error("cannot listen for the CNI plugin on {path}: {source}", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The boot's name.
    #[error("cannot read which boot of the machine this is from /proc/sys/kernel/random/boot_id: {0}")]
    Boot(std::io::Error),
    /// The runtime's configuration.
    #[error(transparent)]
    Conflist(#[from] conflist::Error),
    /// A blocking task ended before its work was done.
    #[error("the agent is ending")]
    Ending,
}

/// What the network part needs of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Its addresses; if empty, those of its Node.
    pub addresses: Vec<IpAddr>,
    /// The largest packet of pods; what fits the pod network if none.
    pub mtu: Option<u32>,
    /// How pods of different nodes reach each other.
    pub pod_network: PodNetwork,
    /// Where the journal is.
    pub dir: PathBuf,
    /// How long a released address waits.
    pub reuse_after: std::time::Duration,
}

impl From<&AgentConfig> for Settings {
    fn from(config: &AgentConfig) -> Settings {
        Settings {
            node: config.node_name.clone(),
            addresses: config.node_ips.clone(),
            mtu: config.network.mtu,
            pod_network: config.network.pod_network(),
            dir: config.cni_dir(),
            reuse_after: config.reuse_after(),
        }
    }
}

/// The network part of one node.
#[derive(Debug)]
pub struct Network<D> {
    settings: Settings,
    kernel: D,
    ipam: Arc<Ipam>,
    held: Mutex<Held>,
    policies: Arc<Policies>,
    flows: Arc<Flows>,
    /// Held by whoever writes policies.
    told: tokio::sync::Mutex<policies::Told>,
    /// Shared by calls about single attachments, held alone by what concerns the whole node.
    whole: RwLock<()>,
    attachments: Keyed<AttachmentId>,
    ready: watch::Sender<Result<(), String>>,
    /// What Services' parts rest on, once the kernel holds the node's base.
    context: watch::Sender<Option<ServiceContext>>,
    /// Nodes that don't answer.
    unreachable: watch::Sender<BTreeSet<String>>,
    /// Nodes that do.
    answering: watch::Sender<BTreeSet<String>>,
    /// What was heard of them, held by whoever listens.
    notes: tokio::sync::Mutex<Notes>,
    left_out: LeftOut,
    counters: Counters,
}

/// What is in place.
#[derive(Debug, Default)]
struct Held {
    /// What the kernel was like when the last plan was made.
    facts: Option<NodeFacts>,
    /// The attachments whose links are in place.
    attachments: BTreeMap<AttachmentId, Attachment>,
}

impl<D: DataPlane> Network<D> {
    /// Takes the journal up and compares it with the kernel: attachments whose links are gone,
    /// because their pods are or because an ADD was cut short, are released.
    pub async fn start(settings: Settings, policies: Arc<Policies>, kernel: D) -> Result<Network<D>, Error> {
        let boot = clock::boot_id().map_err(Error::Boot)?;
        let (dir, reuse_after) = (settings.dir.clone(), settings.reuse_after);
        let open = move || -> Result<_, ipam::Error> {
            Ok((Ipam::open(&dir, &boot, reuse_after)?, Notes::open(&dir, &boot)))
        };
        let (ipam, notes) = blocking(open).await??;
        let network = Network {
            settings,
            kernel,
            ipam: Arc::new(ipam),
            held: Mutex::default(),
            policies,
            flows: Arc::default(),
            told: tokio::sync::Mutex::default(),
            whole: RwLock::new(()),
            attachments: Keyed::new(),
            ready: watch::Sender::new(Err("the agent is starting".to_owned())),
            context: watch::Sender::new(None),
            unreachable: watch::Sender::new(notes.silent()),
            answering: watch::Sender::default(),
            notes: tokio::sync::Mutex::new(notes),
            left_out: LeftOut::default(),
            counters: Counters::default(),
        };
        network.release_vanished().await?;
        let attachments = network.ipam.attachments();
        for (id, attachment) in &attachments {
            network.policies.attach(id.clone(), policies::of(attachment));
        }
        network.held().attachments = attachments;
        Ok(network)
    }

    /// Counts of what was done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The attachments of this node.
    pub fn attachments(&self) -> BTreeMap<AttachmentId, Attachment> {
        self.ipam.attachments()
    }

    /// How full this node's blocks are.
    pub fn usage(&self) -> Vec<ipam::Usage> {
        self.ipam.usage(clock::since_boot())
    }

    /// Readiness as it changes.
    pub fn readiness(&self) -> watch::Receiver<Result<(), String>> {
        self.ready.subscribe()
    }

    /// What is told of conversations.
    pub(crate) fn told(&self) -> Arc<Flows> {
        self.flows.clone()
    }

    /// Sets readiness, and logs it when it changes.
    fn set_ready(&self, state: Result<(), String>) {
        self.ready.send_if_modified(|now| {
            let changed = *now != state;
            if changed {
                match &state {
                    Ok(()) => tracing::info!("the pod network is ready"),
                    Err(reason) => tracing::warn!(reason, "the pod network isn't ready"),
                }
                *now = state;
            }
            changed
        });
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: DataPlane> NetworkStatus for Network<D> {
    fn ready(&self) -> Result<(), String> {
        self.ready.borrow().clone()
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut receiver = self.ready.subscribe();
        Box::pin(async move {
            // The sender is `self`, so it outlives this future.
            receiver.changed().await.ok();
        })
    }

    fn metrics(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(self.metrics_text())
    }

    fn flows(&self, query: &str) -> Option<Result<BoxStream<'static, Bytes>, String>> {
        Some(query.parse().map(|query| self.flows.lines(query)))
    }
}

/// Runs work that waits for the disk where that is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ending)
}
