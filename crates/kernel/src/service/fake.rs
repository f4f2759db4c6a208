//! Maps and a table that are played, and that look at themselves after every write.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

use bpf_abi::service::{Frontend, SlotKey};
use ipnet::IpNet;
use model::Backend;

use super::Translations;
use super::backends::Known;
use crate::bpf::service::{At, Entries, ServiceMaps};
use crate::{Error, Result};

/// What the kernel would hold.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) backends: RefCell<BTreeMap<u32, Backend>>,
    pub(super) slots: RefCell<BTreeMap<(u32, u32), u32>>,
    pub(super) frontends: RefCell<BTreeMap<At, Frontend>>,
    pub(super) sources: RefCell<BTreeSet<(u32, IpNet)>>,
    pub(super) table: RefCell<BTreeMap<u32, SocketAddr>>,
    pub(super) writes: Cell<usize>,
    /// How many writes from now on the one comes that is refused.
    pub(super) refuse: Cell<Option<usize>>,
}

impl Fake {
    fn write(&self) -> Result<()> {
        self.writes.set(self.writes.get() + 1);
        match self.refuse.get() {
            Some(0) => {
                self.refuse.set(None);
                Err(Error::bpf("write", &io::Error::other("refused")))
            }
            left => {
                self.refuse.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }

    /// Nothing leads to what isn't there.
    fn look(&self) {
        for (at, frontend) in self.frontends.borrow().iter().filter(|(at, _)| at.port != 0) {
            for choice in [frontend.inside, frontend.outside] {
                for slot in 0..choice.slots {
                    let id = self.slots.borrow().get(&(choice.set, slot)).copied();
                    let id = id.unwrap_or_else(|| {
                        panic!("{at:?} leads to slot {slot} of {choice:?}, which isn't there")
                    });
                    let backend = self.backends.borrow().get(&id).copied();
                    let backend =
                        backend.unwrap_or_else(|| panic!("{at:?} leads to backend {id}, which isn't there"));
                    assert_eq!(self.table.borrow().get(&id), Some(&backend.socket), "{at:?}");
                }
            }
        }
    }

    /// What a client inside and outside may get at each frontend.
    pub(super) fn leads(&self) -> BTreeMap<At, [BTreeSet<SocketAddr>; 2]> {
        let to = |set: u32, slots: u32| {
            let ids = (0..slots).map(|slot| self.slots.borrow()[&(set, slot)]);
            ids.map(|id| self.backends.borrow()[&id].socket).collect()
        };
        let frontends = self.frontends.borrow();
        let real = frontends.iter().filter(|(at, _)| at.port != 0);
        real.map(|(at, one)| {
            (
                *at,
                [one.inside, one.outside].map(|choice| to(choice.set, choice.slots)),
            )
        })
        .collect()
    }
}

impl ServiceMaps for Fake {
    fn entries(&self) -> Result<Entries> {
        let slots = self.slots.borrow();
        let slots = slots.iter().map(|((set, slot), id)| {
            (
                SlotKey {
                    set: *set,
                    slot: *slot,
                },
                *id,
            )
        });
        Ok(Entries {
            backends: self
                .backends
                .borrow()
                .iter()
                .map(|(id, one)| (*id, *one))
                .collect(),
            slots: slots.collect(),
            frontends: self
                .frontends
                .borrow()
                .iter()
                .map(|(at, one)| (*at, *one))
                .collect(),
            sources: self.sources.borrow().iter().copied().collect(),
        })
    }

    fn put_backend(&self, id: u32, backend: &Backend) -> Result<()> {
        self.write()?;
        self.backends.borrow_mut().insert(id, *backend);
        // It isn't led to before it's translated.
        self.look();
        Ok(())
    }

    fn remove_backend(&self, id: u32, _: bool) -> Result<()> {
        self.write()?;
        self.backends.borrow_mut().remove(&id);
        self.look();
        Ok(())
    }

    fn put_slot(&self, key: SlotKey, backend: u32) -> Result<()> {
        self.write()?;
        self.slots.borrow_mut().insert((key.set, key.slot), backend);
        self.look();
        Ok(())
    }

    fn remove_slot(&self, key: SlotKey) -> Result<()> {
        self.write()?;
        self.slots.borrow_mut().remove(&(key.set, key.slot));
        self.look();
        Ok(())
    }

    fn put_frontend(&self, at: At, frontend: &Frontend) -> Result<()> {
        self.write()?;
        self.frontends.borrow_mut().insert(at, *frontend);
        self.look();
        Ok(())
    }

    fn remove_frontend(&self, at: At) -> Result<()> {
        self.write()?;
        self.frontends.borrow_mut().remove(&at);
        Ok(())
    }

    fn put_source(&self, set: u32, net: IpNet) -> Result<()> {
        self.write()?;
        self.sources.borrow_mut().insert((set, net));
        Ok(())
    }

    fn remove_source(&self, set: u32, net: IpNet) -> Result<()> {
        self.write()?;
        self.sources.borrow_mut().remove(&(set, net));
        Ok(())
    }
}

impl Translations for Fake {
    fn read(&self) -> Result<Vec<Known>> {
        Ok(self
            .table
            .borrow()
            .iter()
            .map(|(id, socket)| (*id, *socket))
            .collect())
    }

    fn change(&self, removed: &[Known], added: &[Known]) -> Result<()> {
        if removed.is_empty() && added.is_empty() {
            return Ok(());
        }
        self.write()?;
        for (id, _) in removed {
            self.table.borrow_mut().remove(id);
        }
        for (id, socket) in added {
            let before = self.table.borrow_mut().insert(*id, *socket);
            assert_eq!(before, None, "the kernel refuses what is there");
        }
        self.look();
        Ok(())
    }
}
