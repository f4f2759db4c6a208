//! Mounts inside the node's mount namespace.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::mountinfo;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A file system in memory, of at most `size` bytes if that is given.
pub(crate) fn tmpfs(target: &Path, size: Option<u64>, mode: u32) -> io::Result<()> {
    let size = size.map(|s| format!(",size={s}")).unwrap_or_default();
    let options = format!("mode={mode:o}{size}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )?;
    Ok(())
}

/// Shows what `source` is open on at `target`, wherever its name leads by now.
pub(crate) fn bind(source: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
    mount(
        Some(&source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(())
}

/// Whether something is mounted at exactly `path`.
pub(crate) fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(mountinfo::mounts()?.iter().any(|m| m.target == path))
}

/// Takes down everything mounted at or below `path`, the deepest first. What
/// is still in use goes as soon as it isn't.
pub(crate) fn unmount_below(path: &Path) -> io::Result<()> {
    for place in mountinfo::targets_below(path)? {
        match umount2(&place, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(nix::Error::EBUSY) => {
                umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes a folder with all that is in it. Refuses while anything is mounted
/// there: what lies behind a mount isn't ours to delete.
pub(crate) fn remove_unmounted(path: &Path) -> io::Result<()> {
    unmount_below(path)?;
    if let Some(left) = mountinfo::targets_below(path)?.first() {
        let message = format!("{} is still mounted", left.display());
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
