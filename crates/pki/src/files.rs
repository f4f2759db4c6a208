//! Certificates and keys as files: written atomically, private to their owner.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// A certificate with its private key, both as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPairPem {
    /// The certificate.
    pub cert: String,
    /// The private key (PKCS #8).
    pub key: String,
}

impl fmt::Debug for KeyPairPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPairPem")
            .field("cert", &self.cert)
            .field("key", &"(hidden)")
            .finish()
    }
}

impl KeyPairPem {
    /// Reads `NAME.crt` and `NAME.key`; `None` when either is missing.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn read(dir: &Path, name: &str) -> Result<Option<Self>, Error> {
        let cert = read_if_present(&cert_path(dir, name))?;
        let key = read_if_present(&key_path(dir, name))?;
        Ok(cert.zip(key).map(|(cert, key)| Self { cert, key }))
    }

    /// Writes `NAME.key` and then `NAME.crt`, creating the directory (mode 0700) when needed.
    ///
    /// # Errors
    /// When the directory or a file cannot be written.
    pub fn write(&self, dir: &Path, name: &str) -> Result<(), Error> {
        create_dir(dir)?;
        write_private(&key_path(dir, name), &self.key)?;
        write_private(&cert_path(dir, name), &self.cert)
    }
}

pub(crate) fn cert_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.crt"))
}

pub(crate) fn key_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.key"))
}

pub(crate) fn public_key_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.pub"))
}

pub(crate) fn read_if_present(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        // Damage shows as damage later, where the right advice is known.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file_error("cannot read", path, source)),
    }
}

pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| file_error("cannot create", dir, source))
}

/// Replaces `path` in one step: readers see the old file or the new one, never half of it, and
/// the same holds after a power failure.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), Error> {
    let temporary = temporary_path(path);
    let result = replace(path, &temporary, content);
    if result.is_err() {
        // The first error is the one that matters; a file left over is harmless.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|source| file_error("cannot write", path, source))
}

fn replace(path: &Path, temporary: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// A name that no other writer uses, beside the target so that the rename stays in one file system.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{:016x}.tmp", rand::random::<u64>()));
    path.with_file_name(name)
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File {
        action,
        path: path.to_owned(),
        source,
    }
}
