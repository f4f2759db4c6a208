//! Addresses for pods, from the node's own blocks (`spec.podCIDRs`), with a memory that survives
//! `kill -9` at any point.
//!
//! # Rules
//!
//! - One address for each family that the node has a block of; blocks are used in their order.
//! - The network's own address, the broadcast address and the gateway belong to no pod.
//! - An address that no pod has had comes first, then the one that was released longest ago, and
//!   only after a cool-down: until then other nodes may still send there what was meant for the
//!   pod that had it before.
//! - ADD for an attachment that has addresses returns these.
//! - A port of the node leads to one pod: a second one that asks for it is refused.
//!
//! # The journal
//!
//! `attachments.journal` in the agent's `cni` directory is a text file of one record a line:
//!
//! ```text
//! CRC32 JSON LF
//!
//! 0bad5eed {"op":"journal","version":1,"boot":"0cf7…"}
//! …        {"op":"assign","id":{"container":"c0ffee","interface":"eth0"},"attachment":{"addresses":["10.244.1.2"],…}}
//! …        {"op":"release","id":{…},"at":184467}
//! …        {"op":"cooling","address":"10.244.1.2","at":184467}
//! ```
//!
//! CRC32 is zlib's, over the JSON, in eight hex digits. `at` is in milliseconds since the boot:
//! nobody sets that clock. The first line names the boot; network namespaces end with it, so a
//! journal of an earlier boot is begun anew.
//!
//! - **Written before it is true**: `assign` is on the disk before the kernel hears of the address,
//!   `release` after it has forgotten it. Records are in the order of the decisions, and one sync
//!   covers all that wait.
//! - **A torn tail** is a record that was never acknowledged, and is dropped. Damage anywhere else
//!   isn't from a crash: the agent refuses to guess who has which address.
//! - **Compaction**, at every start and when the file has grown to several times its content:
//!   a new file is written beside the old one, synced, and renamed over it.
//! - **One agent**: `attachments.lock` is held for as long as the process lives.

mod block;
pub(crate) mod fuzz;
mod journal;
mod pool;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use model::{Attachment, AttachmentId, HostPort};
use tracing::warn;

use journal::{Dir, Journal};
use pool::Pool;
pub use pool::{NoAddress, Usage};
use record::Record;

/// Milliseconds since the machine's boot.
pub type Millis = u64;

/// The file is compacted when it has this many records more than it needs twice over.
const SLACK: usize = 1024;

/// Why an address couldn't be given or taken back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
    /// Another pod has the port.
    #[error("host port {port} on this node is {owner}'s: delete that pod, or give this one another hostPort")]
    PortTaken {
        /// The port that was asked for.
        port: HostPort,
        /// Who has it.
        owner: String,
    },
    /// The file system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An earlier failure left the file in an unknown state.
    #[error(
        "{path} can't be written since an earlier failure ({reason}): see to the disk, then restart the agent"
    )]
    Broken {
        /// The journal.
        path: PathBuf,
        /// The failure.
        reason: String,
    },
    /// The file isn't what was written.
    #[error(
        "{path} is damaged at byte {offset}, and without it nobody knows which addresses are in use: \
         remove this node's pods (or reboot it), delete the file, and start the agent again"
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where.
        offset: usize,
    },
    /// The file says that two attachments have one address.
    #[error(
        "{path} gives an address of {owner} a second time, to {other}: remove this node's pods (or \
         reboot it), delete the file, and start the agent again"
    )]
    TwoOwners {
        /// The journal.
        path: PathBuf,
        /// Who has it.
        owner: String,
        /// Who got it too.
        other: String,
    },
    /// The file is a newer agent's.
    #[error(
        "{path} has format {version}, which this agent can't read: run the agent that wrote it, or a newer one"
    )]
    Version {
        /// The journal.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// Another agent runs with the same directory.
    #[error("{path} is locked: another agent serves this node; stop it first")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
}

/// What [`Ipam::add`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// The attachment is new.
    New(Attachment),
    /// It was there already, with these addresses.
    Known(Attachment),
}

impl Added {
    /// The attachment, new or not.
    pub fn attachment(&self) -> &Attachment {
        match self {
            Added::New(attachment) | Added::Known(attachment) => attachment,
        }
    }
}

/// Who has which address. Its methods block on the disk: call them where that is allowed.
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pool: Pool,
    journal: Journal,
}

impl Ipam {
    /// Reads the journal in `dir`. `boot` tells this boot of the machine from others, and
    /// released addresses wait for `reuse_after`.
    pub fn open(dir: &Path, boot: &str, reuse_after: Duration) -> Result<Ipam, Error> {
        let held = Dir::open(dir, boot)?;
        let replay = held.replay()?;
        if replay.torn > 0 {
            warn!(dir = %dir.display(), bytes = replay.torn, "dropped a record that a crash cut short");
        }
        let mut pool = Pool::new(reuse_after);
        for record in replay.records {
            apply(&mut pool, record, dir)?;
        }
        let journal = Journal::begin(held, &dump(&pool))?;
        Ok(Ipam {
            dir: dir.to_owned(),
            state: Mutex::new(State { pool, journal }),
        })
    }

    /// Sets the blocks that new addresses come from.
    pub fn set_blocks(&self, blocks: &[IpNet]) {
        self.lock().pool.set_blocks(blocks);
    }

    /// Gives `id` an address of each family, or returns those that it has. `make` completes the
    /// attachment. When this returns, the decision is on the disk.
    pub fn add(
        &self,
        id: &AttachmentId,
        now: Millis,
        make: impl FnOnce(Vec<IpAddr>) -> Attachment,
    ) -> Result<Added, Error> {
        let mut state = self.lock();
        let known = state.pool.attachments().get(id).cloned();
        let addresses = match &known {
            Some(attachment) => attachment.addresses.clone(),
            None => state.pool.pick(now)?,
        };
        let attachment = make(addresses);
        if known.as_ref() == Some(&attachment) {
            return Ok(Added::Known(attachment));
        }
        state.pool.ports_free(id, &attachment.host_ports)?;
        let record = Record::Assign {
            id: id.clone(),
            attachment: Box::new(attachment.clone()),
        };
        let ticket = state.journal.append(&record)?;
        apply(&mut state.pool, record, &self.dir)?;
        self.compact_if_grown(&mut state);
        drop(state);
        ticket.wait()?;
        Ok(if known.is_some() {
            Added::Known(attachment)
        } else {
            Added::New(attachment)
        })
    }

    /// Takes the addresses of `id` back; nothing if it has none. When this returns, that is on the
    /// disk.
    pub fn release(&self, id: &AttachmentId, now: Millis) -> Result<Option<Attachment>, Error> {
        let mut state = self.lock();
        if !state.pool.attachments().contains_key(id) {
            return Ok(None);
        }
        let ticket = state.journal.append(&Record::Release {
            id: id.clone(),
            at: now,
        })?;
        let released = state.pool.release(id, now);
        self.compact_if_grown(&mut state);
        drop(state);
        ticket.wait()?;
        Ok(released)
    }

    /// The attachment of that id.
    pub fn get(&self, id: &AttachmentId) -> Option<Attachment> {
        self.lock().pool.attachments().get(id).cloned()
    }

    /// All attachments.
    pub fn attachments(&self) -> BTreeMap<AttachmentId, Attachment> {
        self.lock().pool.attachments().clone()
    }

    /// How full the blocks are.
    pub fn usage(&self, now: Millis) -> Vec<Usage> {
        self.lock().pool.usage(now)
    }

    /// Whether nobody but `id` has one of these ports of the node.
    pub fn ports_free(&self, id: &AttachmentId, ports: &[HostPort]) -> Result<(), Error> {
        self.lock().pool.ports_free(id, ports)
    }

    /// Whether an ADD now would find an address.
    pub fn has_room(&self, now: Millis) -> Result<(), NoAddress> {
        self.lock().pool.pick(now).map(drop)
    }

    fn compact_if_grown(&self, state: &mut State) {
        let needed = state.pool.attachments().len() + state.pool.released().count();
        if state.journal.records() <= 2 * needed + SLACK {
            return;
        }
        // Not being able to compact loses nothing: the file only stays long.
        if let Err(error) = state.journal.compact(&dump(&state.pool)) {
            warn!(%error, "the journal of addresses stays long");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One record's meaning.
fn apply(pool: &mut Pool, record: Record, dir: &Path) -> Result<(), Error> {
    match record {
        Record::Journal { .. } => {}
        Record::Assign { id, attachment } => {
            let other = id.container.clone();
            pool.assign(id, *attachment).map_err(|owner| Error::TwoOwners {
                path: dir.to_owned(),
                owner: owner.container,
                other,
            })?;
        }
        Record::Release { id, at } => {
            pool.release(&id, at);
        }
        Record::Cooling { address, at } => pool.remember_release(address, at),
    }
    Ok(())
}

/// The records that make a pool what it is.
fn dump(pool: &Pool) -> Vec<Record> {
    let cooling = pool
        .released()
        .map(|(at, address)| Record::Cooling { address, at });
    let assigned = pool.attachments().iter();
    let assigned = assigned.map(|(id, attachment)| Record::Assign {
        id: id.clone(),
        attachment: Box::new(attachment.clone()),
    });
    cooling.chain(assigned).collect()
}
