//! Our programs on links and sockets, and the maps that tell them where pods and Services are, and what
//! policies allow.
//!
//! ```text
//!   bpfDir/VERSION/   a bpffs; VERSION is the object's digest
//!     rip_from_pod …    programs
//!     endpoints4 …      maps
//! ```
//!
//! Everything belongs to one node. Programs hang on links without a link object of their own, so they
//! live as long as the device ([`Hooks`] has the two ways), and on the node's control group alike; pins keep programs and maps for the next agent. One with the same
//! object opens the pins and loads nothing. One with another object loads its own programs with those
//! of the old maps that have the same layout, puts them in the place of the old ones, each in one
//! step, and removes the old pins when all are replaced: no packet passes unchecked in between.

mod attach;
mod clsact;
mod dir;
mod hooks;
mod load;
mod loopback;
mod policies;
pub(crate) mod service;
pub mod services;
mod sockets;
mod sys;
mod table;
mod tables;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpf_abi::Counter;
use ipnet::IpNet;
use plan::{Endpoint, Forward, LoopbackPort, NodeAddress, Object};

use crate::Result;
use crate::netns::Cookie;

use attach::Programs;
pub(crate) use attach::Role;
pub use hooks::Hooks;
use loopback::Loopbacks;
pub(crate) use policies::Policies;
use services::Services;
pub(crate) use sockets::clear as clear_sockets;
use tables::Tables;

/// A node's programs and maps, in the kernel.
pub(crate) struct Bpf {
    dir: PathBuf,
    programs: Programs,
    tables: Mutex<Tables>,
    services: Arc<Services>,
    loopbacks: Loopbacks,
    policies: Policies,
}

impl fmt::Debug for Bpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bpf")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Bpf {
    /// Opens what is pinned below `dir`, or loads and pins it.
    fn open(dir: &Path, hooks: Hooks) -> Result<Bpf> {
        dir::prepare(dir)?;
        if hooks == Hooks::Clsact {
            // Linux before 5.11 counts maps as locked memory, of which processes get little.
            sys::lock_memory();
        }
        let mut loaded = load::open_or_load(dir, load::OBJECT)?;
        let services = Services::new(&mut loaded.maps)?;
        let loopbacks = Loopbacks::new(&mut loaded.maps)?;
        if !loopbacks.is_empty()? {
            services.use_loopbacks()?;
        }
        Ok(Bpf {
            dir: dir.to_owned(),
            programs: Programs::new(loaded.links, loaded.sockets, hooks)?,
            loopbacks,
            services: Arc::new(services),
            policies: Policies::new(&mut loaded.maps)?,
            tables: Mutex::new(Tables::new(loaded.maps)?),
        })
    }

    /// Removes other versions' pins, once nothing of theirs is on a link any more.
    pub(crate) fn retire_others(&self) -> Result<()> {
        if load::retire_others(&self.dir, load::OBJECT)? {
            // Until now they may have written what they know into tables that both have.
            self.renew()?;
        }
        Ok(())
    }

    /// The programs, for links of the calling thread's namespace.
    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// What the programs know of Services.
    pub(crate) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// What the programs know of policies.
    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Has every conversation judged and its path found anew, by its next packet.
    pub(crate) fn renew(&self) -> Result<()> {
        self.tables().renew()
    }

    /// Everything in the maps about where pods and nodes are. The node's own namespace is `own`, if the kernel
    /// says so.
    pub(crate) fn objects(&self, names: &HashMap<u32, &str>, own: Option<Cookie>) -> Result<Vec<Object>> {
        let mut objects = self.tables().read(names)?;
        let ports = self.loopbacks.read(own)?.into_iter();
        objects.extend(ports.map(Object::LoopbackPort));
        Ok(objects)
    }

    /// Writes a port of the loopback of the namespace `own`.
    pub(crate) fn put_loopback(&self, port: &LoopbackPort, own: Cookie) -> Result<()> {
        self.loopbacks.put(port, own)?;
        self.services.use_loopbacks()
    }

    /// Removes a port of the loopback; false if it isn't there.
    pub(crate) fn remove_loopback(&self, port: &LoopbackPort) -> Result<bool> {
        self.loopbacks.remove(port)
    }

    /// Writes a pod's address.
    pub(crate) fn put_endpoint(&self, endpoint: &Endpoint, link: u32) -> Result<()> {
        self.tables().put_endpoint(endpoint, link)
    }

    /// Removes a pod's address; false if it isn't there, or is another pod's.
    pub(crate) fn remove_endpoint(&self, endpoint: &Endpoint) -> Result<bool> {
        self.tables().remove_endpoint(endpoint)
    }

    /// Writes the way to a block.
    pub(crate) fn put_forward(&self, forward: &Forward, link: u32) -> Result<()> {
        self.tables().put_forward(forward, link)
    }

    /// Removes the way to a block; false if it isn't there.
    pub(crate) fn remove_forward(&self, destination: IpNet) -> Result<bool> {
        self.tables().remove_forward(destination)
    }

    /// Writes a node's address.
    pub(crate) fn put_node(&self, node: NodeAddress) -> Result<()> {
        self.tables().put_node(node)
    }

    /// Removes a node's address; false if it isn't there, or is a pod's.
    pub(crate) fn remove_node(&self, address: IpAddr) -> Result<bool> {
        self.tables().remove_node(address)
    }

    /// Forgets all conversations; says how many there were.
    pub(crate) fn forget_flows(&self) -> Result<usize> {
        self.tables().forget_flows()
    }

    /// What was counted.
    pub(crate) fn count(&self, counter: Counter) -> Result<u64> {
        self.tables().count(counter)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opened when it's first needed, again and again until it can be.
#[derive(Debug)]
pub(crate) struct Lazy {
    dir: PathBuf,
    hooks: Hooks,
    opened: Mutex<Option<Arc<Bpf>>>,
}

impl Lazy {
    pub(crate) fn new(dir: PathBuf, hooks: Hooks) -> Lazy {
        Lazy {
            dir,
            hooks,
            opened: Mutex::default(),
        }
    }

    /// Where on links programs are: known without any.
    pub(crate) fn hooks(&self) -> Hooks {
        self.hooks
    }

    pub(crate) fn get(&self) -> Result<Arc<Bpf>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bpf) = opened.as_ref() {
            return Ok(bpf.clone());
        }
        let bpf = Arc::new(Bpf::open(&self.dir, self.hooks)?);
        *opened = Some(bpf.clone());
        Ok(bpf)
    }
}
