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
