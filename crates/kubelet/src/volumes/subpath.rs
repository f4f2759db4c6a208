//! `subPath`: a part of a volume, shown by itself.
//!
//! The container may have planted symlinks in the volume, so the path is
//! opened below the volume by the kernel, which lets nothing lead out, and
//! what was opened, not its name, is what is shown.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};

use super::mount;

/// Shows `sub` of the volume at `volume` at `target`, and makes it, a folder,
/// if it isn't there.
pub(crate) fn show(volume: &Path, sub: &str, target: &Path) -> io::Result<()> {
    if mount::is_mounted(target)? {
        return Ok(());
    }
    let opened = open_below(volume, Path::new(sub))?;
    let parent = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let is_dir = fs::metadata(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&opened)
    ))?
    .is_dir();
    if is_dir {
        fs::create_dir_all(target)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    mount::bind(&opened, target)
}

fn open_below(volume: &Path, sub: &Path) -> io::Result<OwnedFd> {
    if !sub
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
    {
        let message = format!("subPath {} must be relative and without '..'", sub.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let base = open(
        volume,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    match openat2(&base, sub, how()) {
        Ok(fd) => Ok(fd),
        Err(nix::Error::ENOENT) => make_below(volume, base, sub),
        Err(nix::Error::EXDEV) => {
            let message = format!("subPath {} leads out of its volume", sub.display());
            Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes the folders of `sub` one by one, with the volume's own mode, and
/// opens the last. A volume whose files go to its group has folders that do so too.
fn make_below(volume: &Path, base: OwnedFd, sub: &Path) -> io::Result<OwnedFd> {
    let mode = fs::metadata(volume)?.permissions().mode() & 0o2777;
    let mut at = base;
    for part in sub.components() {
        let Component::Normal(name) = part else { continue };
        match mkdirat(&at, name, Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = openat2(
            &at,
            name,
            how().resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS),
        )?;
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&at));
        fs::set_permissions(own, fs::Permissions::from_mode(mode))?;
    }
    Ok(at)
}

fn how() -> OpenHow {
    OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_leads_out_of_a_volume() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        symlink("../secret", volume.join("up")).unwrap();
        symlink("/etc", volume.join("etc")).unwrap();
        symlink("inside", volume.join("link")).unwrap();
        fs::write(volume.join("inside"), "y").unwrap();
        assert!(open_below(&volume, Path::new("link")).is_ok());
        for sub in ["up", "etc", "etc/passwd", "../secret", "/etc"] {
            assert!(open_below(&volume, Path::new(sub)).is_err(), "{sub}");
        }
    }

    #[test]
    fn what_is_missing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        open_below(folder.path(), Path::new("a/b")).unwrap();
        assert!(folder.path().join("a/b").is_dir());
    }

    #[test]
    fn what_is_made_has_the_volumes_mode() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2777)).unwrap();
        open_below(folder.path(), Path::new("a/b")).unwrap();
        for made in ["a", "a/b"] {
            let mode = fs::metadata(folder.path().join(made))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o7777, 0o2777, "{made}");
        }
    }
}
