//! Elements of our table's maps: translations that come and go one by one, with the connections that
//! they made.

use std::net::{IpAddr, SocketAddr};

use nft::{Change, Entry, Place, Set, Tuple};
use plan::Mapping;

use crate::apply::Kernel;
use crate::conntrack::{Connection, Which};
use crate::{Error, Result};

const UDP: u8 = 17;

/// What a translation of destinations is about.
struct Translation {
    protocol: u8,
    /// None: all of the node's own.
    address: Option<IpAddr>,
    port: u16,
    to: SocketAddr,
}

impl Translation {
    /// Read from a map's element; `None` if it's about something else.
    fn of(key: &Tuple, data: &Tuple) -> Option<Translation> {
        Some(Translation {
            protocol: key.protocol()?,
            address: key.address(),
            port: key.port()?,
            to: SocketAddr::new(data.address()?, data.port()?),
        })
    }

    fn is_for(&self, connection: &Connection) -> bool {
        let to = connection.original.destination;
        connection.protocol == self.protocol
            && to.port() == self.port
            && self.address.is_none_or(|address| address == to.ip())
    }
}

impl Kernel {
    /// Whether the map's element is there exactly so.
    pub fn holds_mapping(&self, mapping: &Mapping) -> Result<bool> {
        let Some((place, set)) = map(&mapping.map) else {
            return Ok(false);
        };
        Ok(self.nft.entries(&place, &set)?.contains(&mapping.entry()))
    }

    /// Writes an element, in place of another of the same key.
    pub(crate) async fn put_mapping(&self, mapping: &Mapping) -> Result<usize> {
        let Some((place, set)) = map(&mapping.map) else {
            return Ok(0);
        };
        let add = Change::AddElements(set.clone(), vec![mapping.entry()]);
        match self.nft.change(&place, std::slice::from_ref(&add)) {
            Err(error) if is_taken(&error) => {
                let key = mapping.entry().key;
                let old: Vec<Entry> = self
                    .nft
                    .entries(&place, &set)?
                    .into_iter()
                    .filter(|entry| entry.key == key)
                    .collect();
                self.nft
                    .change(&place, &[Change::DeleteElements(set, old.clone()), add])?;
                self.forget_withdrawn(&old)?;
            }
            written => written?,
        }
        self.forget_untranslated(&[mapping.entry()]).await?;
        Ok(1)
    }

    /// Removes elements, and the connections that they made even if they were gone already: whoever
    /// removed them may have been killed before that. Says how many were there.
    pub(crate) fn remove_mappings(&self, mappings: &[&Mapping]) -> Result<usize> {
        let mut removed = 0;
        for mapping in mappings {
            let Some((place, set)) = map(&mapping.map) else {
                continue;
            };
            let change = Change::DeleteElements(set, vec![mapping.entry()]);
            match self.nft.change(&place, &[change]) {
                Ok(()) => removed += 1,
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let entries: Vec<Entry> = mappings.iter().map(|mapping| mapping.entry()).collect();
        self.forget_withdrawn(&entries)?;
        Ok(removed)
    }

    /// Sees to the connections that changes of the whole table leave behind.
    pub(crate) async fn forget_after(&self, changes: &[Change]) -> Result<()> {
        let (mut withdrawn, mut added) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::DeleteElements(_, entries) => withdrawn.extend_from_slice(entries),
                Change::AddElements(_, entries) => added.extend_from_slice(entries),
                _ => {}
            }
        }
        self.forget_withdrawn(&withdrawn)?;
        self.forget_untranslated(&added).await
    }

    /// Forgets the connections that translations made which are no longer. The kernel is asked once for
    /// all: it looks through the connections of every namespace each time.
    fn forget_withdrawn(&self, entries: &[Entry]) -> Result<()> {
        let translations: Vec<Translation> = entries.iter().filter_map(translation).collect();
        if translations.is_empty() {
            return Ok(());
        }
        let connections = self.conntrack.connections(Which::Translated)?;
        let is_stale = |connection: &&Connection| {
            let made_by = |translation: &Translation| {
                translation.is_for(connection) && connection.reply.source == translation.to
            };
            connection.is_translated() && translations.iter().any(made_by)
        };
        for connection in connections.iter().filter(is_stale) {
            self.conntrack.delete(connection)?;
        }
        Ok(())
    }

    /// Forgets what a client that keeps sending began before the translation was there: its packets
    /// would pass it by. Only UDP goes on so; a refused TCP connection is begun anew.
    async fn forget_untranslated(&self, entries: &[Entry]) -> Result<()> {
        let translations = entries.iter().filter_map(translation);
        let translations: Vec<Translation> = translations.filter(|one| one.protocol == UDP).collect();
        if translations.is_empty() {
            return Ok(());
        }
        let connections = self.conntrack.connections(Which::All)?;
        let is_stale = |connection: &&Connection| {
            let is_for = |translation: &Translation| {
                translation.to.is_ipv4() == connection.original.source.is_ipv4()
                    && translation.is_for(connection)
            };
            !connection.is_translated() && translations.iter().any(is_for)
        };
        for connection in connections.iter().filter(is_stale) {
            // The same port of somebody else's address is none of ours.
            if self
                .netlink
                .is_local(connection.original.destination.ip())
                .await?
            {
                self.conntrack.delete(connection)?;
            }
        }
        Ok(())
    }
}

fn translation(entry: &Entry) -> Option<Translation> {
    match (&entry.key, &entry.data) {
        (nft::Key::Joined(key), Some(data)) => Translation::of(key, data),
        _ => None,
    }
}

/// A map of our table, and the table.
fn map(name: &str) -> Option<(Place, Set)> {
    let table = plan::table();
    let place = Place::new(table.family, &table.name);
    let set = table.sets.into_iter().find(|set| set.name == name)?;
    Some((place, set))
}

/// Whether the key is there with other data.
fn is_taken(error: &Error) -> bool {
    error.is_exists() || error.errno() == Some(libc::EBUSY)
}
