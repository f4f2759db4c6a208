//! The plugin's commands.
//!
//! ```text
//! ADD   policies known ──► journal the address ──► isolation ──► link ──► result
//!                                   └───────── undone if the kernel refuses ◄┘
//! DEL   link ──► isolation ──► journal the release
//! ```
//!
//! Every command may be repeated: ADD returns the addresses that the attachment has, DEL of what
//! isn't there succeeds.

use std::collections::BTreeSet;
use std::time::Duration;

use cni::{AddResult, Call, Code, Command, Error, NetworkConfig};
use kernel::process::ProcessId;
use kubelet::NetworkStatus as _;
use model::{Attachment, AttachmentId, NodeFacts, PodRef};
use plan::{Identity, Object, Part, PartId, plan_attachment};
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tracing::{info, warn};

use super::counters::count;
use super::report::{compare, failure, listed, refusal, result};
use super::wishes::Wishes;
use super::{DataPlane, Network, blocking};
use crate::clock;
use crate::ipam::{self, Added};
use crate::policies::Unsettled;

/// How long ADD waits for a network that isn't ready.
const READY_PATIENCE: Duration = Duration::from_secs(3);

/// What came of a call.
#[derive(Debug)]
pub struct Answer {
    /// For the plugin.
    pub outcome: Result<Option<Value>, Error>,
    /// What to detach again if the plugin can't be told: whoever called it takes it for not
    /// attached, and may have asked for its removal already.
    pub undo: Option<AttachmentId>,
}

impl<D: DataPlane> Network<D> {
    /// Serves one call of the plugin, which waits at the other end of `caller`.
    pub async fn serve(&self, call: &Call, config: &NetworkConfig, caller: Option<&UnixStream>) -> Answer {
        let mut undo = None;
        let outcome = match call.validate().and_then(|()| config.validate(call.command)) {
            Err(error) => Err(error),
            Ok(version) => match call.command {
                Command::Add => self.add(call, config, caller).await.and_then(|(added, result)| {
                    undo = added;
                    result
                        .render_after(version, config.prev_result.as_ref())
                        .map(Some)
                }),
                Command::Del => self.del(&id(call), call.netns.as_deref()).await.map(|()| None),
                Command::Check => self.check(call, config).await.map(|()| None),
                Command::Status => self.status().map(|()| None),
                Command::Gc => self.gc(config).await.map(|()| None),
                // The plugin answers this one itself.
                Command::Version => Ok(None),
            },
        };
        if let Err(error) = &outcome {
            count(&self.counters.failures, 1);
            warn!(command = %call.command, container = call.container_id, pod = %pod(call), %error, "a call of the CNI plugin failed");
        }
        Answer { outcome, undo }
    }

    /// Attaches. Returns the attachment's id if it is new.
    async fn add(
        &self,
        call: &Call,
        config: &NetworkConfig,
        caller: Option<&UnixStream>,
    ) -> Result<(Option<AttachmentId>, AddResult), Error> {
        let id = id(call);
        let wishes = Wishes::read(config)?;
        let _held = self.attachments.hold(&id).await;
        // A plugin that was ended: its DEL may have been served already, and none would follow.
        if has_left(caller).await {
            return Err(Error::new(
                Code::TryAgainLater,
                "whoever asked for the attachment is gone",
            ));
        }
        self.wait_ready().await;
        let facts = self.facts_if_ready()?;
        if self.room_for(&id, &wishes).is_err() {
            // Perhaps pods went without a word, as in a crash of the runtime.
            self.release_vanished().await.map_err(failure)?;
        }
        let pod = self.policies.settle(&pod(call)).await;
        let pod = pod.map_err(|missing| unsettled(&missing))?;
        let _shared = self.whole.read().await;
        let before = self.ipam.get(&id);
        let blank = Attachment {
            pod,
            network: config.name.clone(),
            asked: caller.and_then(started),
            ..self.blank(call, &id, &facts, wishes)
        };
        let added = self.allocate(&id, blank).await?;
        let attachment = added.attachment();
        let part = plan_attachment(&id, attachment, &facts);
        if let Some(before) = before.filter(|before| before != attachment) {
            self.remove_surplus(&id, &plan_attachment(&id, &before, &facts), &part)
                .await?;
        }
        let is_new = matches!(added, Added::New(_));
        // Policy before reachability: not one packet of the pod's passes that they don't allow.
        let isolated = self.isolate(&id, attachment).await;
        let part_id = PartId::Attachment(id.clone());
        let attached = match isolated {
            Ok(()) => self.kernel.apply_part(&part_id, &part).await,
            Err(error) => Err(error),
        };
        match attached {
            Ok(writes) => count(&self.counters.kernel_writes, writes),
            Err(error) => {
                self.undo_add(&id, &part, is_new).await;
                return Err(refusal(&error, &id));
            }
        }
        let result = result(&part);
        self.held().attachments.insert(id.clone(), attachment.clone());
        if let Err(error) = self.tell_left_out().await {
            // As for pods that are there, it is tried again; the pod's Services work either way.
            warn!(%id, %error, "the kernel isn't told whether the pod sees Services' addresses");
        }
        count(&self.counters.adds, 1);
        info!(%id, pod = %attachment.pod, addresses = ?attachment.addresses, "attached");
        Ok((is_new.then_some(id), result))
    }

    /// Waits a little for a network that isn't ready: an agent that has just been started again
    /// mostly is in a moment, and a refusal costs the pod a whole new sandbox.
    async fn wait_ready(&self) {
        let mut ready = self.readiness();
        // Ready or not: whoever asks next finds out.
        let _ = tokio::time::timeout(READY_PATIENCE, ready.wait_for(Result::is_ok)).await;
    }

    /// What the kernel is like, once pods can be attached.
    fn facts_if_ready(&self) -> Result<NodeFacts, Error> {
        let not_yet = |reason: String| {
            Error::new(
                Code::TryAgainLater,
                format!("the pod network isn't ready: {reason}"),
            )
        };
        self.ready().map_err(not_yet)?;
        self.held()
            .facts
            .clone()
            .ok_or_else(|| not_yet("the agent is starting".to_owned()))
    }

    /// Whether there is an address for this attachment, and its host ports are nobody else's.
    fn room_for(&self, id: &AttachmentId, wishes: &Wishes) -> Result<(), ipam::Error> {
        self.ipam.ports_free(id, &wishes.host_ports)?;
        if self.ipam.get(id).is_some() {
            Ok(())
        } else {
            Ok(self.ipam.has_room(clock::since_boot())?)
        }
    }

    /// What is to be attached, without the addresses.
    fn blank(&self, call: &Call, id: &AttachmentId, facts: &NodeFacts, wishes: Wishes) -> Attachment {
        Attachment {
            netns: call.netns.clone().unwrap_or_default(),
            host_link: id.host_link(),
            mtu: self
                .settings
                .mtu
                .unwrap_or_else(|| plan::pod_mtu(self.settings.pod_network, facts)),
            host_ports: wishes.host_ports,
            limits: wishes.limits,
            ..Attachment::default()
        }
    }

    async fn allocate(&self, id: &AttachmentId, blank: Attachment) -> Result<Added, Error> {
        let (ipam, id) = (self.ipam.clone(), id.clone());
        let make = move |addresses| Attachment { addresses, ..blank };
        let added = blocking(move || ipam.add(&id, clock::since_boot(), make))
            .await
            .map_err(failure)?;
        added.map_err(|error| failure(error.into()))
    }

    /// Removes what a repeated ADD doesn't want any more.
    async fn remove_surplus(&self, id: &AttachmentId, before: &Part, part: &Part) -> Result<(), Error> {
        let wanted: BTreeSet<Identity> = part.objects.iter().map(Object::identity).collect();
        let mut surplus = Part {
            title: before.title.clone(),
            ..Part::default()
        };
        let unwanted = before
            .objects
            .iter()
            .filter(|object| !wanted.contains(&object.identity()));
        surplus.objects.extend(unwanted.cloned());
        if surplus.objects.is_empty() {
            return Ok(());
        }
        let removed = self
            .kernel
            .remove_part(&PartId::Attachment(id.clone()), &surplus)
            .await;
        count(
            &self.counters.kernel_writes,
            removed.map_err(|error| refusal(&error, id))?,
        );
        Ok(())
    }

    /// Takes an ADD back that the kernel refused. What can't be taken back stays in the journal:
    /// the runtime's DEL comes, and the address is nobody else's until then.
    async fn undo_add(&self, id: &AttachmentId, part: &Part, is_new: bool) {
        if !is_new {
            return;
        }
        let undone = match self
            .kernel
            .remove_part(&PartId::Attachment(id.clone()), part)
            .await
        {
            Ok(writes) => {
                count(&self.counters.kernel_writes, writes);
                self.unisolate(id).await;
                self.release(id).await.map(drop)
            }
            Err(error) => Err(refusal(&error, id)),
        };
        if let Err(error) = undone {
            warn!(%id, %error, "a failed ADD couldn't be undone: its DEL will");
        }
    }

    /// Detaches; what isn't there any more is no error.
    pub(super) async fn del(&self, id: &AttachmentId, netns: Option<&str>) -> Result<(), Error> {
        let _held = self.attachments.hold(id).await;
        let _shared = self.whole.read().await;
        let attachment = self.ipam.get(id).unwrap_or_else(|| unknown(id, netns));
        let facts = self
            .held()
            .facts
            .clone()
            .unwrap_or_else(|| no_facts(&self.settings.node));
        let part = plan_attachment(id, &attachment, &facts);
        let removed = self
            .kernel
            .remove_part(&PartId::Attachment(id.clone()), &part)
            .await;
        let writes = removed.map_err(|error| refusal(&error, id))?;
        count(&self.counters.kernel_writes, writes);
        self.unisolate(id).await;
        let released = self.release(id).await?;
        self.held().attachments.remove(id);
        count(&self.counters.dels, 1);
        if let Some(attachment) = released {
            info!(%id, pod = %attachment.pod, addresses = ?attachment.addresses, "detached");
        }
        Ok(())
    }

    async fn release(&self, id: &AttachmentId) -> Result<Option<Attachment>, Error> {
        let (ipam, id) = (self.ipam.clone(), id.clone());
        let released = blocking(move || ipam.release(&id, clock::since_boot()))
            .await
            .map_err(failure)?;
        released.map_err(|error| failure(error.into()))
    }

    /// Whether the attachment is as ADD left it.
    async fn check(&self, call: &Call, config: &NetworkConfig) -> Result<(), Error> {
        let id = id(call);
        let _held = self.attachments.hold(&id).await;
        let _shared = self.whole.read().await;
        let attachment = self.ipam.get(&id).ok_or_else(|| {
            Error::new(
                Code::UnknownContainer,
                format!(
                    "container {} has no interface {} of ours",
                    id.container, id.interface
                ),
            )
        })?;
        let previous = config.prev_result.as_ref().ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                "CHECK needs the result of ADD as prevResult in the network configuration",
            )
        })?;
        let previous = AddResult::parse(previous)?;
        compare(&attachment, &previous)?;
        let facts = self.facts_if_ready()?;
        let part = listed(plan_attachment(&id, &attachment, &facts), &previous);
        let mut missing = self
            .kernel
            .missing(&part)
            .await
            .map_err(|error| refusal(&error, &id))?;
        let unenforced = self.unenforced(&attachment).await;
        missing.extend(unenforced.map_err(|error| refusal(&error, &id))?);
        if !missing.is_empty() {
            return Err(Error::new(
                Code::CheckFailed,
                format!(
                    "the network of pod {} isn't as it was made: delete the pod to have it made anew",
                    attachment.pod
                ),
            )
            .with_details(missing.join("; ")));
        }
        count(&self.counters.checks, 1);
        Ok(())
    }

    /// Whether ADD would work. A kernel that isn't as planned concerns the pods that are there, too.
    fn status(&self) -> Result<(), Error> {
        let unavailable =
            |code: Code, reason: String| Error::new(code, format!("no pod can be attached: {reason}"));
        self.ready().map_err(|reason| {
            let was_ready = self.held().facts.is_some();
            let code = if was_ready && !self.ipam.attachments().is_empty() {
                Code::NotAvailableLimited
            } else {
                Code::NotAvailable
            };
            unavailable(code, reason)
        })?;
        self.ipam
            .has_room(clock::since_boot())
            .map_err(|error| unavailable(Code::NotAvailable, error.to_string()))
    }

    /// Detaches what the runtime no longer knows. Its list is that of one network: attachments to
    /// others aren't in it.
    async fn gc(&self, config: &NetworkConfig) -> Result<(), Error> {
        let Some(valid) = &config.valid_attachments else {
            return Err(Error::new(
                Code::InvalidConfig,
                "GC needs cni.dev/valid-attachments in the network configuration: without it everything would go",
            ));
        };
        let keep: BTreeSet<AttachmentId> = valid
            .iter()
            .map(|valid| AttachmentId::new(&valid.container_id, &valid.ifname))
            .collect();
        let mut failed = Vec::new();
        let of_network =
            |attachment: &Attachment| attachment.network.is_empty() || attachment.network == config.name;
        let attachments = self.ipam.attachments().into_iter();
        let stale = attachments.filter(|(id, attachment)| of_network(attachment) && !keep.contains(id));
        for (id, _) in stale {
            info!(%id, "the runtime doesn't know this attachment any more");
            if let Err(error) = self.del(&id, None).await {
                failed.push(format!("{id}: {error}"));
            }
        }
        match failed.len() {
            0 => Ok(()),
            count => Err(
                Error::new(Code::Io, format!("{count} attachments couldn't be removed"))
                    .with_details(failed.join("; ")),
            ),
        }
    }
}

/// Whether the plugin has closed its end, and not only said all that it had to say.
async fn has_left(caller: Option<&UnixStream>) -> bool {
    match caller {
        Some(stream) => match stream.ready(Interest::WRITABLE).await {
            Ok(ready) => ready.is_write_closed(),
            Err(_) => true,
        },
        None => false,
    }
}

/// When the plugin was started: whoever started it was there then.
fn started(caller: &UnixStream) -> Option<u64> {
    let pid = caller.peer_cred().ok()?.pid()?;
    let plugin = ProcessId::of(pid.try_into().ok()?)?;
    Some(plugin.start_time)
}

fn id(call: &Call) -> AttachmentId {
    AttachmentId::new(&call.container_id, &call.interface)
}

fn pod(call: &Call) -> PodRef {
    PodRef {
        namespace: call.arg("K8S_POD_NAMESPACE").to_owned(),
        name: call.arg("K8S_POD_NAME").to_owned(),
        uid: call.arg("K8S_POD_UID").to_owned(),
    }
}

/// A pod whose isolation can't be known isn't attached: it would be open.
fn unsettled(missing: &Unsettled) -> Error {
    Error::new(
        Code::TryAgainLater,
        format!("the pod's isolation isn't known yet: {missing}"),
    )
}

/// What can be said about an attachment that the journal doesn't have: its link's name.
fn unknown(id: &AttachmentId, netns: Option<&str>) -> Attachment {
    Attachment {
        pod: PodRef::default(),
        netns: netns.unwrap_or_default().to_owned(),
        host_link: id.host_link(),
        addresses: Vec::new(),
        mtu: 0,
        ..Attachment::default()
    }
}

/// For removals before the uplink is known: what they remove doesn't depend on it.
fn no_facts(node: &str) -> NodeFacts {
    NodeFacts {
        name: node.to_owned(),
        ..NodeFacts::default()
    }
}
