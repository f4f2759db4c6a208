//! A tar archive whose bytes follow from its content alone: sorted, without
//! times, owned by root.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// Files by path, without a leading slash.
#[derive(Debug, Default)]
pub(crate) struct Layer(BTreeMap<String, Entry>);

#[derive(Debug)]
enum Entry {
    Folder(u32),
    File(u32, Vec<u8>),
    Link(String),
}

impl Layer {
    /// A folder with its mode. Parents come along where they aren't there.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.0.insert(path.to_owned(), Entry::Folder(mode));
    }

    /// A file with its mode.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.parents(path);
        self.0.insert(path.to_owned(), Entry::File(mode, content.into()));
    }

    /// A symbolic link, unless there is something by that name.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        let link = Entry::Link(target.to_owned());
        self.0.entry(path.to_owned()).or_insert(link);
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = path[..at].to_owned();
            self.0.entry(parent).or_insert(Entry::Folder(0o755));
        }
    }

    /// The archive's bytes.
    ///
    /// # Errors
    /// If a path is too long for the format.
    pub(crate) fn tar(&self) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let written = match entry {
                Entry::Folder(mode) => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    archive.append_data(&mut header, format!("{path}/"), &[][..])
                }
                Entry::File(mode, content) => {
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice())
                }
                Entry::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target)
                }
            };
            written.with_context(|| format!("{path} in the archive"))?;
        }
        Ok(archive.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_depend_on_the_content_and_not_on_the_order() {
        let mut one = Layer::default();
        one.file("bin/a", 0o755, "x");
        one.link("usr/bin/b", "/bin/a");
        one.folder("tmp", 0o1777);
        let mut two = Layer::default();
        two.folder("tmp", 0o1777);
        two.link("usr/bin/b", "/bin/a");
        two.file("bin/a", 0o755, "x");
        two.link("bin/a", "/elsewhere");
        assert_eq!(one.tar().unwrap(), two.tar().unwrap());
    }

    #[test]
    fn parents_come_before_children() {
        let mut layer = Layer::default();
        layer.link("usr/bin/[", "/bin/busybox");
        layer.file("usr/bin.d/x", 0o644, "");
        let bytes = layer.tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            paths,
            ["usr/", "usr/bin/", "usr/bin.d/", "usr/bin.d/x", "usr/bin/["]
        );
    }
}
