//! What was known last, in a file: a DNS that starts while the API is away answers with it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::record::Records;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The domain that the names are in: those of another one say nothing.
    pub domain: String,
    /// What names are made of.
    pub records: Records,
    /// What people have set, as they wrote it.
    pub settings: BTreeMap<String, String>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct Memory {
    path: PathBuf,
}

impl Memory {
    /// The memory in that folder.
    pub fn new(dir: &Path) -> Memory {
        Memory {
            path: dir.join("names.json"),
        }
    }

    /// What is remembered of that domain, if anything.
    pub fn recall(&self, domain: &str) -> Option<Remembered> {
        let bytes = fs::read(&self.path).ok()?;
        match serde_json::from_slice::<Remembered>(&bytes) {
            Ok(found) => (found.domain == domain).then_some(found),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the names that were known last can't be read: waiting for the API");
                None
            }
        }
    }

    /// Keeps it for the next start. Failing costs no more than waiting for the API then.
    pub fn remember(&self, what: &Remembered) {
        let new = self.path.with_extension("json.new");
        let write = || -> io::Result<()> {
            self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut file = io::BufWriter::new(fs::File::create(&new)?);
            serde_json::to_writer(&mut file, what)?;
            io::Write::flush(&mut file)?;
            fs::rename(&new, &self.path)
        };
        if let Err(error) = write() {
            tracing::warn!(path = %self.path.display(), %error, "the names can't be kept for the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_recalled_for_the_same_domain_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let memory = Memory::new(&dir.path().join("dns"));
        assert_eq!(memory.recall("cluster.local"), None);
        let mut what = Remembered {
            domain: "cluster.local".to_owned(),
            ..Remembered::default()
        };
        what.records.namespaces.insert("default".to_owned());
        memory.remember(&what);
        assert_eq!(memory.recall("cluster.local"), Some(what));
        assert_eq!(memory.recall("other.local"), None);
        fs::write(dir.path().join("dns/names.json"), "{").expect("written");
        assert_eq!(memory.recall("cluster.local"), None);
    }
}
