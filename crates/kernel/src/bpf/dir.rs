//! The folder of the pins: a bpffs, or in one.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::statfs;

use crate::{Error, Result};

/// `BPF_FS_MAGIC`
const BPF_FS: i64 = 0xcafe_4a11;
/// Where every distribution mounts its bpffs; sysfs takes no other folders.
const USUAL: &str = "/sys/fs/bpf";

/// Makes the folder, on a bpffs: its parent's if that is one, else one of its own.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    let prepare = || -> io::Result<()> {
        if is_bpffs(dir) {
            return Ok(());
        }
        if dir.starts_with(USUAL) && !is_bpffs(Path::new(USUAL)) {
            mount_at(Path::new(USUAL))?;
        }
        fs::create_dir_all(dir)?;
        if is_bpffs(dir) { Ok(()) } else { mount_at(dir) }
    };
    prepare().map_err(|source| Error::Pins {
        dir: dir.to_owned(),
        source,
    })
}

fn is_bpffs(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|stat| stat.filesystem_type().0 == BPF_FS)
}

fn mount_at(dir: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), dir, Some("bpf"), flags, Some("mode=0700"))?;
    Ok(())
}
