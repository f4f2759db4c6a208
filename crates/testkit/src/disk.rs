//! A disk that is small enough to fill.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

/// A file system of some MiB in memory. It is mounted nowhere, so that a killed test leaves nothing.
#[derive(Debug)]
pub struct SmallDisk(OwnedFd);

impl SmallDisk {
    /// One of so many MiB.
    ///
    /// # Panics
    /// When it can't be made: that wants root.
    pub fn new(mebibytes: u32) -> SmallDisk {
        let make = || {
            let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(&fs, "size", format!("{mebibytes}m"))?;
            fsconfig_create(&fs)?;
            fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        SmallDisk(make().expect("a file system of its own wants root"))
    }

    /// The path of a file on it, within this process.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}
