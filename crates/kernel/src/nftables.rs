//! nftables over netlink: dump, and change in one atomic batch.

use std::collections::BTreeSet;

use nft::{Batch, Change, Elements, Entry, Key, Object, Observed, Place, Request, Set, Table, Tuple};

use crate::direct::{Direct, error_number, messages, refused};
use crate::{Error, NetNs, Result};

/// What the errors of a dump call it.
const DUMP: &str = "read the nftables ruleset";

/// A netfilter connection into one network namespace.
#[derive(Debug)]
pub struct Nft {
    netfilter: Direct,
}

impl Nft {
    /// Connects to the calling thread's namespace.
    pub fn current() -> Result<Nft> {
        Ok(Nft {
            netfilter: Direct::netfilter()?,
        })
    }

    /// Connects to the given namespace.
    pub fn open(netns: &NetNs) -> Result<Nft> {
        netns.run(Nft::current)?
    }

    /// A table as it is, with the elements of its sets; `None` if there's no such table.
    pub fn observe(&self, place: &Place) -> Result<Option<Observed>> {
        self.observe_but(place, &[])
    }

    /// The same without the elements of some sets.
    fn observe_but(&self, place: &Place, left_out: &[&str]) -> Result<Option<Observed>> {
        if !self
            .dump(Request::Tables)?
            .iter()
            .any(|object| matches!(object, Object::Table(at, _) if at == place))
        {
            return Ok(None);
        }
        let mut objects = self.dump(Request::Chains)?;
        objects.extend(self.dump(Request::Rules(place))?);
        let sets = self.dump(Request::Sets(place))?;
        for set in &sets {
            if let Object::Set(at, name, _) = set
                && at == place
                && !left_out.contains(&name.as_str())
            {
                objects.extend(self.dump(Request::Elements(place, name))?);
            }
        }
        objects.extend(sets);
        Ok(Some(Observed::collect(place, objects)))
    }

    /// Makes a table with its elements as they should be, writing only what differs; returns the
    /// changes made.
    pub fn apply(&self, table: &Table, elements: &Elements) -> Result<Vec<Change>> {
        self.apply_but(table, elements, &[])
    }

    /// The same, but the elements of some sets aren't looked at, and stay.
    pub(crate) fn apply_but(
        &self,
        table: &Table,
        elements: &Elements,
        left_out: &[&str],
    ) -> Result<Vec<Change>> {
        let place = Place::new(table.family, &table.name);
        let changes = nft::diff(self.observe_but(&place, left_out)?.as_ref(), table, elements);
        self.change(&place, &changes)?;
        Ok(changes)
    }

    /// Makes all of these changes to a table, or none.
    pub fn change(&self, place: &Place, changes: &[Change]) -> Result<()> {
        let mut batch = Batch::new();
        batch.extend(place, changes);
        self.commit(batch)
    }

    /// Removes a table with all that is in it; false if it isn't there.
    pub fn delete_table(&self, place: &Place) -> Result<bool> {
        match self.change(place, &[Change::DeleteTable]) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes all changes of a batch, or none.
    pub fn commit(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let sent = batch.finish();
        let _exchange = self.netfilter.exchange();
        self.netfilter
            .send(&sent.bytes, "send a batch of nftables changes")?;
        let (mut refusal, mut done) = (None, false);
        while let Some(buffer) = self.netfilter.receive()? {
            for message in messages(&buffer) {
                let Some(errno) = error_number(&message) else {
                    continue;
                };
                if errno == 0 {
                    done |= message.sequence == sent.last();
                } else if refusal.is_none() {
                    // The first one is the cause of the others.
                    refusal = Some(refused(
                        sent.request(message.sequence).to_owned(),
                        errno,
                        message.body,
                    ));
                }
            }
        }
        match refusal {
            Some(refusal) => Err(refusal),
            None if done => Ok(()),
            None => Err(Error::Disconnected {
                request: sent.request(sent.last()).to_owned(),
            }),
        }
    }

    /// Reads all objects that match.
    pub fn dump(&self, request: Request<'_>) -> Result<Vec<Object>> {
        self.netfilter.dump(&request.bytes(), DUMP, |message| {
            Object::parse((message.kind & 0xff) as u8, message.body)
        })
    }

    /// Reads a map's elements without keeping them: there may be very many.
    pub(crate) fn each_entry(
        &self,
        place: &Place,
        map: &Set,
        mut each: impl FnMut(&Tuple, &Tuple),
    ) -> Result<()> {
        let found = self
            .netfilter
            .dump(
                &Request::Elements(place, &map.name).bytes(),
                DUMP,
                |message| match Object::parse((message.kind & 0xff) as u8, message.body) {
                    Some(Object::Elements(_, _, elements)) => Some(elements),
                    _ => None,
                },
            )?;
        for element in found.iter().flatten() {
            if let Some(Entry {
                key: Key::Joined(key),
                data: Some(data),
            }) = element.entry(map)
            {
                each(&key, &data);
            }
        }
        Ok(())
    }

    /// The elements of one set or map of a table, without reading the rest of it.
    pub fn entries(&self, place: &Place, set: &Set) -> Result<BTreeSet<Entry>> {
        let mut objects = self.dump(Request::Elements(place, &set.name))?;
        objects.push(Object::Set(place.clone(), set.name.clone(), Some(set.clone())));
        let mut observed = Observed::collect(place, objects);
        let found = observed.sets.remove(&set.name);
        Ok(found.map(|found| found.elements).unwrap_or_default())
    }
}
