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
                old.iter().try_for_each(|entry| self.forget_withdrawn(entry))?;
            }
            written => written?,
        }
        self.forget_untranslated(&mapping.entry()).await?;
        Ok(1)
    }

    /// Removes an element, and the connections that it made even if it was gone already: whoever
    /// removed it may have been killed before that.
    pub(crate) fn remove_mapping(&self, mapping: &Mapping) -> Result<bool> {
        let Some((place, set)) = map(&mapping.map) else {
            return Ok(false);
        };
        let entry = mapping.entry();
        let removed = self
            .nft
            .change(&place, &[Change::DeleteElements(set, vec![entry.clone()])]);
        match removed {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => self.forget_withdrawn(&entry)?,
        }
        removed.map(|()| true)
    }

    /// Sees to the connections that changes of the whole table leave behind.
    pub(crate) async fn forget_after(&self, changes: &[Change]) -> Result<()> {
        for change in changes {
            match change {
                Change::DeleteElements(_, entries) => entries
                    .iter()
                    .try_for_each(|entry| self.forget_withdrawn(entry))?,
                Change::AddElements(_, entries) => {
                    for entry in entries {
                        self.forget_untranslated(entry).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets the connections that a translation made which is no longer.
    fn forget_withdrawn(&self, entry: &Entry) -> Result<()> {
        let Some(translation) = translation(entry) else {
            return Ok(());
        };
        let connections = self
            .conntrack
            .connections(translation.to.is_ipv4(), Which::Translated)?;
        let stale = connections.iter().filter(|connection| {
            connection.is_translated()
                && translation.is_for(connection)
                && connection.reply.source == translation.to
        });
        for connection in stale {
            self.conntrack.delete(connection)?;
        }
        Ok(())
    }

    /// Forgets what a client that keeps sending began before the translation was there: its packets
    /// would pass it by. Only UDP goes on so; a refused TCP connection is begun anew.
    async fn forget_untranslated(&self, entry: &Entry) -> Result<()> {
        let Some(translation) = translation(entry).filter(|translation| translation.protocol == UDP) else {
            return Ok(());
        };
        let connections = self.conntrack.connections(translation.to.is_ipv4(), Which::All)?;
        let stale = connections
            .iter()
            .filter(|connection| !connection.is_translated() && translation.is_for(connection));
        for connection in stale {
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
