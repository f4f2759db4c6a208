//! Attachments that the container runtime doesn't know any more.
//!
//! A runtime that is killed between its ADD and writing down what it made never sends the DEL, and
//! the namespace that it pinned keeps the link alive: neither the journal nor the kernel can tell
//! that nobody will use it. Where the runtime can be asked, it is; elsewhere its GC does the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cri::message::PodSandboxFilter;
use model::AttachmentId;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{DataPlane, Network};

/// What the runtime didn't know when it was asked last.
#[derive(Debug, Default)]
struct Suspects(BTreeSet<AttachmentId>);

impl Suspects {
    /// The attachments that the runtime doesn't know, for the second time in a row.
    fn look(
        &mut self,
        attachments: impl Iterator<Item = AttachmentId>,
        known: &BTreeSet<String>,
    ) -> BTreeSet<AttachmentId> {
        let unknown: BTreeSet<AttachmentId> =
            attachments.filter(|id| !known.contains(&id.container)).collect();
        let orphans = unknown.intersection(&self.0).cloned().collect();
        self.0 = unknown;
        orphans
    }
}

impl<D: DataPlane> Network<D> {
    /// Asks the runtime every `patience`, until `shutdown`. It may make a sandbox for so long without
    /// knowing it: attachments that it doesn't know at two looks in a row are nobody's.
    pub async fn reconcile(
        self: Arc<Self>,
        runtime: cri::Client,
        patience: Duration,
        shutdown: CancellationToken,
    ) {
        let mut suspects = Suspects::default();
        loop {
            match runtime.list_pod_sandbox(PodSandboxFilter::default()).await {
                Ok(sandboxes) => {
                    let known = sandboxes.into_iter().map(|sandbox| sandbox.id).collect();
                    let orphans = suspects.look(self.attachments().into_keys(), &known);
                    self.release_orphans(orphans).await;
                }
                // It may be restarting. What it doesn't know must be said by itself, twice.
                Err(error) => {
                    debug!(%error, "the container runtime can't be asked for its sandboxes");
                    suspects = Suspects::default();
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(patience) => {}
            }
        }
    }

    async fn release_orphans(&self, orphans: BTreeSet<AttachmentId>) {
        for id in orphans {
            warn!(%id, "detaching: the container runtime doesn't know this container");
            if let Err(error) = self.del(&id, None).await {
                warn!(%id, %error, "what the container runtime doesn't know can't be detached yet");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unknown_twice_in_a_row_is_nobodys() {
        let ids = |names: &[&str]| -> BTreeSet<AttachmentId> {
            names
                .iter()
                .map(|name| AttachmentId::new(*name, "eth0"))
                .collect()
        };
        let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut suspects = Suspects::default();
        let mut look =
            |attachments: &[&str], of: &[&str]| suspects.look(ids(attachments).into_iter(), &known(of));
        assert_eq!(look(&["kept", "new", "lost"], &["kept"]), ids(&[]));
        assert_eq!(look(&["kept", "new", "lost"], &["kept", "new"]), ids(&["lost"]));
        assert_eq!(
            look(&["kept", "new"], &["new"]),
            ids(&[]),
            "unknown for the first time"
        );
        assert_eq!(look(&["kept", "new"], &["kept", "new"]), ids(&[]));
    }
}
