//! Attachments that the container runtime doesn't know any more.
//!
//! A runtime that is killed between its ADD and writing down what it made never sends the DEL, and
//! the namespace that it pinned keeps the link alive: neither the journal nor the kernel can tell
//! that nobody will use it. Where the runtime can be asked, it is; elsewhere its GC does the same.
//!
//! ```text
//! asked for by a plugin that started ──┬─ before this process of the runtime ──► unknown once:  nobody's
//!                                      └─ after it, or nobody can tell ────────► unknown twice: nobody's
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cri::message::PodSandboxFilter;
use kernel::process::ProcessId;
use model::{Attachment, AttachmentId};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{DataPlane, Network};

/// How often is looked whether the runtime is the process that it was: pods wait for the ports of what
/// its predecessor left.
const GLANCE: Duration = Duration::from_secs(1);

/// The container runtime, as far as it's asked here.
pub(crate) trait Runtime {
    /// The process that serves it, if that can be seen.
    async fn process(&self) -> Option<ProcessId>;

    /// The containers that are sandboxes of pods.
    async fn sandboxes(&self) -> Result<BTreeSet<String>, cri::Error>;
}

impl Runtime for cri::Client {
    async fn process(&self) -> Option<ProcessId> {
        // A listening socket's credentials are those of who listened first.
        let socket = UnixStream::connect(self.socket()).await.ok()?;
        let pid = socket.peer_cred().ok()?.pid()?;
        ProcessId::of(pid.try_into().ok()?)
    }

    async fn sandboxes(&self) -> Result<BTreeSet<String>, cri::Error> {
        let sandboxes = self.list_pod_sandbox(PodSandboxFilter::default()).await?;
        Ok(sandboxes.into_iter().map(|sandbox| sandbox.id).collect())
    }
}

type Attachments = BTreeMap<AttachmentId, Attachment>;

/// What came of the looks so far.
#[derive(Debug, Default)]
struct Suspects {
    /// The process that serves the runtime.
    process: Option<ProcessId>,
    /// Attachments older than that process which it knows.
    inherited: BTreeSet<AttachmentId>,
    /// What the runtime didn't know when it was asked in its turn last.
    unknown: BTreeSet<AttachmentId>,
}

impl Suspects {
    /// Takes note of the process; one that is new inherits anew.
    fn serves(&mut self, process: Option<ProcessId>) {
        if self.process != process {
            self.process = process;
            self.inherited.clear();
        }
    }

    /// The attachments that were asked for in the days of an earlier process, unless this one is known
    /// to know them. It is making none of them: whatever of them it doesn't know is nobody's.
    fn left_over(&self, attachments: &Attachments) -> BTreeSet<AttachmentId> {
        let Some(process) = self.process else {
            return BTreeSet::new();
        };
        let is_older = |attachment: &Attachment| attachment.asked.is_some_and(|at| at < process.start_time);
        let older = attachments.iter().filter(|(_, attachment)| is_older(attachment));
        let ids = older.map(|(id, _)| id.clone());
        ids.filter(|id| !self.inherited.contains(id)).collect()
    }

    /// Those of the left over that the process doesn't know.
    fn settle(
        &mut self,
        left_over: BTreeSet<AttachmentId>,
        known: &BTreeSet<String>,
    ) -> BTreeSet<AttachmentId> {
        let (inherited, orphans): (BTreeSet<_>, BTreeSet<_>) = left_over
            .into_iter()
            .partition(|id| known.contains(&id.container));
        self.inherited.extend(inherited);
        orphans
    }

    /// The attachments that the runtime doesn't know, for the second time in a row.
    fn look<'a>(
        &mut self,
        attachments: impl Iterator<Item = &'a AttachmentId>,
        known: &BTreeSet<String>,
    ) -> BTreeSet<AttachmentId> {
        let unknown = attachments.filter(|id| !known.contains(&id.container));
        let unknown: BTreeSet<AttachmentId> = unknown.cloned().collect();
        let orphans = unknown.intersection(&self.unknown).cloned().collect();
        self.unknown = unknown;
        orphans
    }
}

impl<D: DataPlane> Network<D> {
    /// Asks the runtime every `patience`, until `shutdown`. It may make a sandbox for so long without
    /// knowing it: attachments that it doesn't know at two looks in a row are nobody's. Those that were
    /// asked for before it was started are nobody's at once.
    pub(crate) async fn reconcile(
        self: Arc<Self>,
        runtime: impl Runtime,
        patience: Duration,
        shutdown: CancellationToken,
    ) {
        let mut suspects = Suspects::default();
        let mut turn = Instant::now();
        loop {
            if !suspects.process.is_some_and(ProcessId::is_alive) {
                suspects.serves(runtime.process().await);
            }
            let attachments = self.attachments();
            let left_over = suspects.left_over(&attachments);
            let its_turn = turn <= Instant::now();
            if its_turn {
                turn = Instant::now() + patience;
            }
            if its_turn || !left_over.is_empty() {
                match runtime.sandboxes().await {
                    Ok(known) => {
                        let mut orphans = suspects.settle(left_over, &known);
                        if its_turn {
                            orphans.extend(suspects.look(attachments.keys(), &known));
                        }
                        self.release_orphans(orphans).await;
                    }
                    // It may be restarting. What it doesn't know must be said by itself, twice.
                    Err(error) => {
                        debug!(%error, "the container runtime can't be asked for its sandboxes");
                        suspects.unknown.clear();
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(GLANCE.min(patience)) => {}
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

    fn ids(names: &[&str]) -> BTreeSet<AttachmentId> {
        let ids = names.iter().map(|name| AttachmentId::new(*name, "eth0"));
        ids.collect()
    }

    fn known(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_what_is_unknown_twice_in_a_row_is_nobodys() {
        let mut suspects = Suspects::default();
        let mut look = |attachments: &[&str], of: &[&str]| suspects.look(ids(attachments).iter(), &known(of));
        assert_eq!(look(&["kept", "new", "lost"], &["kept"]), ids(&[]));
        assert_eq!(look(&["kept", "new", "lost"], &["kept", "new"]), ids(&["lost"]));
        assert_eq!(
            look(&["kept", "new"], &["new"]),
            ids(&[]),
            "unknown for the first time"
        );
        assert_eq!(look(&["kept", "new"], &["kept", "new"]), ids(&[]));
    }

    #[test]
    fn what_an_earlier_process_was_asked_for_is_settled_once() {
        let process = |start_time| Some(ProcessId { pid: 7, start_time });
        let asked = |name: &str, asked| {
            let id = AttachmentId::new(name, "eth0");
            (
                id,
                Attachment {
                    asked,
                    ..Attachment::default()
                },
            )
        };
        let attachments = Attachments::from([
            asked("kept", Some(40)),
            asked("lost", Some(49)),
            asked("same moment", Some(50)),
            asked("in the making", Some(60)),
            asked("who knows", None),
        ]);
        let mut suspects = Suspects::default();
        assert_eq!(suspects.left_over(&attachments), ids(&[]), "nobody serves");
        suspects.serves(process(50));
        let left_over = suspects.left_over(&attachments);
        assert_eq!(left_over, ids(&["kept", "lost"]));
        assert_eq!(suspects.settle(left_over, &known(&["kept"])), ids(&["lost"]));
        assert_eq!(
            suspects.left_over(&attachments),
            ids(&["lost"]),
            "until it is detached"
        );
        suspects.serves(process(70));
        assert_eq!(
            suspects.left_over(&attachments),
            ids(&["in the making", "kept", "lost", "same moment"])
        );
    }
}
