//! The network configuration that tells the container runtime: pods can be attached now.
//!
//! Runtimes that speak CNI 1.0 have no other way to know. containerd watches the folder, and a node
//! is Ready only while the file is there. It stays over a restart of the agent (the plugin waits
//! for the agent meanwhile), so it is removed only when the network has been unready for a while.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// First in order among the files of a folder where somebody else's may be left.
const FILE: &str = "10-ripstop.conflist";

/// The network's name and the plugin's.
const NETWORK: &str = "ripstop";
const PLUGIN: &str = "ripstop-cni";

/// Why the file couldn't be put in its place or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}, by which the container runtime knows that the network is ready: {source}", path = path.display())]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The file in the runtime's folder.
#[derive(Debug, Clone)]
pub struct Conflist {
    dir: PathBuf,
    content: String,
}

impl Conflist {
    /// For a runtime that looks into `dir`, and an agent that listens on `socket`.
    pub fn new(dir: &Path, socket: &Path) -> Conflist {
        let content = serde_json::to_string_pretty(&content(socket)).expect("a literal with a path in it");
        Conflist {
            dir: dir.to_owned(),
            content: content + "\n",
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Puts the file in its place, whole or not at all; false if it was there as it should be.
    pub fn place(&self) -> Result<bool, Error> {
        let path = self.path();
        if fs::read(&path).is_ok_and(|old| old == self.content.as_bytes()) {
            return Ok(false);
        }
        // The runtime reads files that end in .conf, .conflist or .json: not this one.
        let new = self.dir.join(format!(".{FILE}.new"));
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            let mut file = File::create(&new)?;
            file.write_all(self.content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map(|()| true).map_err(|source| Error {
            action: "write",
            path,
            source,
        })
    }

    /// Removes the file; false if there was none.
    pub fn remove(&self) -> Result<bool, Error> {
        let path = self.path();
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error {
                action: "remove",
                path,
                source,
            }),
        }
    }
}

fn content(socket: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [{
            "type": PLUGIN,
            "socket": socket,
            "capabilities": { "portMappings": true, "bandwidth": true },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_once_and_removed_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let conflist = Conflist::new(&dir.path().join("net.d"), Path::new("/run/cni.sock"));
        assert!(!conflist.remove().expect("nothing there"));
        assert!(conflist.place().expect("written"));
        assert!(!conflist.place().expect("there already"));
        insta::assert_snapshot!(fs::read_to_string(conflist.path()).expect("text"), @r#"
        {
          "cniVersion": "1.0.0",
          "name": "ripstop",
          "plugins": [
            {
              "capabilities": {
                "bandwidth": true,
                "portMappings": true
              },
              "socket": "/run/cni.sock",
              "type": "ripstop-cni"
            }
          ]
        }
        "#);
        assert!(conflist.remove().expect("removed"));
    }

    #[test]
    fn a_file_of_an_older_agent_is_replaced_and_nothing_else_is_left_in_the_folder() {
        let dir = tempfile::tempdir().expect("a directory");
        let conflist = Conflist::new(dir.path(), Path::new("/new"));
        Conflist::new(dir.path(), Path::new("/old"))
            .place()
            .expect("written");
        assert!(conflist.place().expect("written"));
        let files: Vec<_> = fs::read_dir(dir.path()).expect("a directory").collect();
        assert_eq!(files.len(), 1);
    }
}
