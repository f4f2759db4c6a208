//! The maps that say what Services are and where they lead, as they are: keys and values, and
//! nothing about what they mean to each other.

use std::net::IpAddr;

use bpf_abi::service::{Frontend, SlotKey};
use ipnet::IpNet;
use model::Backend;

use crate::Result;

/// Where a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The address; zero for each of the node's own.
    pub address: IpAddr,
    /// IP's protocol number.
    pub protocol: u8,
    /// The port, as people write it.
    pub port: u16,
}

/// Everything that the maps hold.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Backends by id.
    pub(crate) backends: Vec<(u32, Backend)>,
    /// Ids of backends by slot.
    pub(crate) slots: Vec<(SlotKey, u32)>,
    /// Frontends.
    pub(crate) frontends: Vec<(At, Frontend)>,
    /// The sources that sets' frontends take traffic from.
    pub(crate) sources: Vec<(u32, IpNet)>,
}

/// The maps. What is put takes the place of what is there; what is removed may be gone.
pub(crate) trait ServiceMaps {
    /// Reads all of them.
    fn entries(&self) -> Result<Entries>;

    /// Writes a backend.
    fn put_backend(&self, id: u32, backend: &Backend) -> Result<()>;

    /// Removes a backend of IPv4 or IPv6.
    fn remove_backend(&self, id: u32, v4: bool) -> Result<()>;

    /// Writes a slot: the id of a backend.
    fn put_slot(&self, key: SlotKey, backend: u32) -> Result<()>;

    /// Removes a slot.
    fn remove_slot(&self, key: SlotKey) -> Result<()>;

    /// Writes a frontend.
    fn put_frontend(&self, at: At, frontend: &Frontend) -> Result<()>;

    /// Removes a frontend.
    fn remove_frontend(&self, at: At) -> Result<()>;

    /// Writes a range of sources that a set's frontends take traffic from.
    fn put_source(&self, set: u32, net: IpNet) -> Result<()>;

    /// Removes such a range.
    fn remove_source(&self, set: u32, net: IpNet) -> Result<()>;
}
