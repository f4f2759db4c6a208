//! Ids of backends to addresses and ports, in our table's maps: what the mark of a packet is
//! translated by.

use nft::{Atom, Change, Entry, Key, Place, Set, Tuple};

use super::backends::Known;
use crate::Result;
use crate::nftables::Nft;

/// How many elements one batch changes: it is one allocation of the kernel's, and others wait for it.
const AT_ONCE: usize = 20_000;

/// The maps of our table.
pub(crate) trait Translations {
    /// Everything that is there.
    fn read(&self) -> Result<Vec<Known>>;

    /// Removes some and adds others.
    fn change(&self, removed: &[Known], added: &[Known]) -> Result<()>;
}

impl Translations for Nft {
    fn read(&self) -> Result<Vec<Known>> {
        let mut all = Vec::new();
        for (place, set) in maps() {
            self.each_entry(&place, &set, |key, data| {
                all.extend(key.mark().zip(data.socket()));
            })?;
        }
        Ok(all)
    }

    fn change(&self, removed: &[Known], added: &[Known]) -> Result<()> {
        // What one id leads to may change: all removals first.
        for (known, change) in [
            (removed, Change::DeleteElements as fn(Set, Vec<Entry>) -> Change),
            (added, Change::AddElements),
        ] {
            for (place, set) in maps() {
                let v4 = set.name == plan::backends_map(true);
                let entries: Vec<Entry> = known
                    .iter()
                    .filter(|(_, socket)| socket.is_ipv4() == v4)
                    .map(entry)
                    .collect();
                for entries in entries.chunks(AT_ONCE) {
                    Nft::change(self, &place, &[change(set.clone(), entries.to_vec())])?;
                }
            }
        }
        Ok(())
    }
}

fn entry((id, socket): &Known) -> Entry {
    Entry {
        key: Key::Joined(Tuple::new([Atom::Mark(*id)])),
        data: Some(Tuple::from(*socket)),
    }
}

fn maps() -> Vec<(Place, Set)> {
    let table = plan::table();
    let place = Place::new(table.family, &table.name);
    let is_ours = |set: &Set| [true, false].map(plan::backends_map).contains(&set.name.as_str());
    let sets = table.sets.into_iter().filter(is_ours);
    sets.map(|set| (place.clone(), set)).collect()
}
