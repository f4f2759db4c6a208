//! A kubeconfig as a file: locked, replaced in one step, its owner and mode kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, chown};
use serde_json::Value;
use supervisor::files;

use super::Owner;

/// How long to wait for kubectl to be done with the file.
const LOCK_LIMIT: Duration = Duration::from_secs(3);

/// A kubeconfig of somebody.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    /// Owner of what has to be made; a file that is there keeps its own.
    pub(super) owner: Owner,
}

impl Target {
    /// One that is there already.
    pub(super) fn found(path: PathBuf) -> Self {
        Self { path, owner: None }
    }

    /// Reads the file, changes it and writes it, unless it stays the same.
    pub(super) fn change(&self, change: impl FnOnce(Value) -> Result<Value, String>) -> Result<(), String> {
        let at = |error: &dyn std::fmt::Display| format!("kubeconfig {}: {error}", self.path.display());
        self.make_parent().map_err(|error| at(&error))?;
        // A link stays one.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let _lock = FileLock::take(&path).map_err(|error| at(&error))?;
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            result => result.map_err(|error| at(&error))?,
        };
        let old: Value = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_saphyr::from_str(&text).map_err(|error| at(&error))?
        };
        let new = change(old.clone()).map_err(|error| at(&error))?;
        if new == old {
            return Ok(());
        }
        self.replace(&path, &files::yaml(&new))
            .map_err(|error| at(&error))
    }

    fn make_parent(&self) -> io::Result<()> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        if parent.exists() {
            return Ok(());
        }
        fs::create_dir_all(parent)?;
        if let Some((uid, gid)) = self.owner {
            chown(parent, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let old = fs::metadata(path).ok();
        let mode = old
            .as_ref()
            .map_or(0o600, |meta| meta.permissions().mode() & 0o777);
        let owner = old
            .map(|meta| (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid())))
            .or(self.owner);
        let temporary = path.with_extension(format!("ripstop-{}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            if let Some((uid, gid)) = owner {
                chown(&temporary, Some(uid), Some(gid))?;
            }
            fs::rename(&temporary, path)
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// kubectl's own lock: a file beside the kubeconfig that exists while somebody writes.
struct FileLock(PathBuf);

impl FileLock {
    fn take(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let lock = path.with_file_name(name);
        let deadline = Instant::now() + LOCK_LIMIT;
        loop {
            match File::create_new(&lock) {
                Ok(_) => return Ok(Self(lock)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let text = format!("{} is there: remove it if no kubectl is running", lock.display());
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
