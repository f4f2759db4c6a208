//! `fsGroup`: a volume's files belong to the pod's group and its members may
//! do what their owner may.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Gid, chown};

/// Gives `path` and all below it to the group. Folders pass the group on to
/// what is made in them. With `only_if_needed`, a volume whose top is right
/// already is left alone.
pub(crate) fn give_to_group(
    path: &Path,
    group: u32,
    read_only: bool,
    only_if_needed: bool,
) -> io::Result<()> {
    let top = fs::symlink_metadata(path)?;
    let right = top.gid() == group && top.permissions().mode() & 0o2070 == 0o2070;
    if only_if_needed && right {
        return Ok(());
    }
    give(path, group, read_only)
}

fn give(path: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        // What it points to is met by itself if it is in the volume.
        return Ok(());
    }
    chown(path, None, Some(Gid::from_raw(group)))?;
    let mut mode = meta.permissions().mode() & 0o7777;
    mode |= if read_only { 0o440 } else { 0o660 };
    if meta.is_dir() {
        mode |= 0o2110;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group, read_only)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root: files are given to a group that isn't ours.
    #[test]
    fn all_of_a_volume_is_the_groups_and_a_volume_that_is_may_be_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let file = inner.join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let seen = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.gid(), meta.permissions().mode() & 0o7777)
        };
        give_to_group(folder.path(), 2000, false, true).unwrap();
        assert_eq!(seen(&file), (2000, 0o660));
        assert_eq!((seen(&inner).0, seen(&inner).1 & 0o2070), (2000, 0o2070));

        // Somebody's own choice within a volume stays as long as its top is right.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        give_to_group(folder.path(), 2000, false, true).unwrap();
        assert_eq!(seen(&file), (2000, 0o600));
        give_to_group(folder.path(), 2000, false, false).unwrap();
        assert_eq!(seen(&file), (2000, 0o660));
        give_to_group(folder.path(), 3000, true, true).unwrap();
        assert_eq!(seen(&file).0, 3000);
    }
}
