//! Files that are whole or not there, and told apart from what they were before.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::Error;

/// Writes a file in one step unless it has this content; says whether it wrote.
///
/// # Errors
/// When it can't be written.
pub fn write(path: &Path, content: &str, mode: u32) -> Result<bool, Error> {
    if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(false);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    make_dir(dir)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let replace = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    let written = replace();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| Error::file("write", path, error))?;
    Ok(true)
}

/// A document as YAML, each value on one line: people cut certificates out of kubeconfigs with grep.
#[must_use]
pub fn yaml(document: &serde_json::Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(document, options).expect("a document becomes YAML")
}

/// Copies a program in one step, so that the copy can be replaced while it runs.
///
/// # Errors
/// When either file can't be used.
pub fn install(source: &Path, target: &Path) -> Result<(), Error> {
    make_dir(target.parent().unwrap_or(Path::new("/")))?;
    let temporary = target.with_extension(format!("{}.tmp", std::process::id()));
    let copy = || -> io::Result<()> {
        fs::copy(source, &temporary)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))?;
        fs::rename(&temporary, target)
    };
    let copied = copy();
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied.map_err(|error| Error::file("install", target, error))
}

/// Makes a folder and what leads to it.
///
/// # Errors
/// When it can't be made.
pub fn make_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|error| Error::file("create", dir, error))
}

/// Makes a folder that only root may look into.
///
/// # Errors
/// When it can't be made.
pub fn make_private_dir(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(dir, private).map_err(|error| Error::file("protect", dir, error))
}

/// Removes a folder with everything in it; does nothing when it isn't there.
///
/// # Errors
/// When something in it can't be removed.
pub fn remove_dir(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", dir, error)),
        _ => Ok(()),
    }
}

/// Reads a list, or the one value that files of earlier builds have in its place.
///
/// # Errors
/// When it is neither.
pub fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_the_same_again_changes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a/b.json");
        assert!(write(&path, "one", 0o600).expect("written"));
        assert!(!write(&path, "one", 0o600).expect("unchanged"));
        assert!(write(&path, "two", 0o600).expect("written"));
        assert_eq!(fs::read_to_string(&path).expect("there"), "two");
        let entries = fs::read_dir(path.parent().expect("a parent")).expect("a folder");
        assert_eq!(entries.count(), 1, "nothing temporary stays");
    }

    #[test]
    fn long_values_stay_on_one_line() {
        let long = "LS0t".repeat(500);
        let text = yaml(&serde_json::json!({"certificate-authority-data": long}));
        assert_eq!(text, format!("certificate-authority-data: {long}\n"));
    }

    #[test]
    fn an_installed_program_can_run() {
        let dir = tempfile::tempdir().expect("a folder");
        let (source, target) = (dir.path().join("source"), dir.path().join("bin/target"));
        fs::write(&source, "#!").expect("written");
        install(&source, &target).expect("installed");
        let mode = fs::metadata(&target).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        remove_dir(dir.path().join("bin").as_path()).expect("removed");
        remove_dir(dir.path().join("bin").as_path()).expect("removing twice is fine");
    }
}
