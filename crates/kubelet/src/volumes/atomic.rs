//! Files that change all at once.
//!
//! ```text
//!   key        -> ..data/key          stays; processes open this
//!   ..data     -> ..2026_11_21_x      swapped by one rename
//!   ..2026_11_21_x/key                a generation, never changed
//! ```
//!
//! Kubernetes has this layout, and programs watch `..data` for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// One file's content and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
}

/// A folder's files, by path.
pub(crate) type Files = BTreeMap<String, File>;

/// Makes `target` show exactly `files`. `finish` sees each new generation
/// before it is shown, to set its owners. True if anything changed.
pub(crate) fn write(
    target: &Path,
    files: &Files,
    finish: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<bool> {
    for path in files.keys() {
        check(path)?;
    }
    let data = target.join(DATA);
    let old = fs::read_link(&data).ok();
    if let Some(old) = &old
        && shows(&target.join(old), files)?
    {
        link_all(target, files)?;
        return Ok(false);
    }
    let new = generation(target)?;
    write_all(&target.join(&new), files)?;
    finish(&target.join(&new))?;
    let tmp = target.join(DATA_TMP);
    remove_if_there(&tmp)?;
    symlink(&new, &tmp)?;
    fs::rename(&tmp, &data)?;
    link_all(target, files)?;
    unlink_others(target, files)?;
    if let Some(old) = old {
        fs::remove_dir_all(target.join(old)).or_else(ignore_absent)?;
    }
    Ok(true)
}

/// A path must stay inside the volume and clear of our own names.
fn check(path: &str) -> io::Result<()> {
    let good = !path.is_empty()
        && !path.starts_with("..")
        && Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
    if good {
        return Ok(());
    }
    let message = format!("invalid path {path:?}: it must be relative, without '..'");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Whether a generation has exactly these files.
fn shows(generation: &Path, files: &Files) -> io::Result<bool> {
    let mut there = BTreeSet::new();
    match list(generation, generation, &mut there) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    }
    if there.len() != files.len() {
        return Ok(false);
    }
    for (path, file) in files {
        let full = generation.join(path);
        if !there.contains(Path::new(path)) || fs::read(&full)? != file.data {
            return Ok(false);
        }
        // Group bits may have been widened for the pod's group.
        let mode = fs::metadata(&full)?.permissions().mode() & 0o777;
        if mode & !0o070 != file.mode & 0o777 & !0o070 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list(root, &path, found)?;
        } else if let Ok(inner) = path.strip_prefix(root) {
            found.insert(inner.to_owned());
        }
    }
    Ok(())
}

/// A fresh generation's folder. Its name sorts by time, as Kubernetes' do.
fn generation(target: &Path) -> io::Result<PathBuf> {
    let now = Timestamp::now();
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let name = PathBuf::from(format!("{stamp}.{:09}", now.subsec_nanosecond()));
    fs::DirBuilder::new().mode(0o755).create(target.join(&name))?;
    // Whatever our umask is, others must get in.
    fs::set_permissions(target.join(&name), fs::Permissions::from_mode(0o755))?;
    Ok(name)
}

fn write_all(generation: &Path, files: &Files) -> io::Result<()> {
    for (path, file) in files {
        let full = generation.join(path);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&full, &file.data)?;
        fs::set_permissions(&full, fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// The first part of a path: what is visible in the volume itself.
fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn link_all(target: &Path, files: &Files) -> io::Result<()> {
    let tops: BTreeSet<&str> = files.keys().map(|p| top(p)).collect();
    for name in tops {
        let link = target.join(name);
        let wanted = Path::new(DATA).join(name);
        if fs::read_link(&link).is_ok_and(|to| to == wanted) {
            continue;
        }
        remove_if_there(&link)?;
        symlink(&wanted, &link)?;
    }
    Ok(())
}

/// Removes links to what is no longer there. What a container wrote beside
/// them is left alone.
fn unlink_others(target: &Path, files: &Files) -> io::Result<()> {
    let tops: BTreeSet<&OsStr> = files.keys().map(|p| OsStr::new(top(p))).collect();
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(DATA));
        if ours && !tops.contains(name.as_os_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(ignore_absent)
}

fn ignore_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File {
            data: text.as_bytes().to_vec(),
            mode: 0o644,
        };
        list.iter()
            .map(|(path, text)| ((*path).to_owned(), file(text)))
            .collect()
    }

    /// What a process sees, and how many generations there are.
    fn seen(target: &Path) -> (Vec<String>, usize) {
        let mut names = Vec::new();
        let mut generations = 0;
        for entry in fs::read_dir(target).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.starts_with("..") {
                names.push(name);
            } else if name != DATA {
                generations += 1;
            }
        }
        names.sort();
        (names, generations)
    }

    #[test]
    fn a_change_swaps_everything_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path();
        assert!(write(target, &files(&[("a", "1"), ("b/c", "2")]), |_| Ok(())).unwrap());
        let before = fs::read_link(target.join(DATA)).unwrap();
        assert_eq!(fs::read_to_string(target.join("b/c")).unwrap(), "2");
        assert_eq!(fs::read_link(target.join("a")).unwrap(), Path::new("..data/a"));

        assert!(write(target, &files(&[("a", "3"), ("d", "4")]), |_| Ok(())).unwrap());
        assert_ne!(fs::read_link(target.join(DATA)).unwrap(), before);
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "3");
        assert_eq!(seen(target), (vec!["a".to_owned(), "d".to_owned()], 1));
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let some = files(&[("a", "1")]);
        write(folder.path(), &some, |_| Ok(())).unwrap();
        let before = fs::read_link(folder.path().join(DATA)).unwrap();
        assert!(!write(folder.path(), &some, |_| Ok(())).unwrap());
        assert_eq!(fs::read_link(folder.path().join(DATA)).unwrap(), before);
    }

    #[test]
    fn a_write_that_was_cut_short_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        symlink("..gone", folder.path().join(DATA)).unwrap();
        symlink("..half", folder.path().join(DATA_TMP)).unwrap();
        assert!(write(folder.path(), &files(&[("a", "1")]), |_| Ok(())).unwrap());
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "1");
    }

    #[test]
    fn paths_out_of_the_volume_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..data/x", ""] {
            assert!(
                write(folder.path(), &files(&[(path, "1")]), |_| Ok(())).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn no_files_is_an_empty_volume() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &files(&[("a", "1")]), |_| Ok(())).unwrap();
        write(folder.path(), &Files::new(), |_| Ok(())).unwrap();
        assert_eq!(seen(folder.path()), (vec![], 1));
    }
}
