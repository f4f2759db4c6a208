//! Mount namespaces that outlive the process that made them.
//!
//! A node of the embedded cluster is a network namespace plus a mount namespace. The mount
//! namespace is kept as a bind mount of its `/proc/PID/ns/mnt` on a file, so that a restarted
//! containerd rejoins the mounts of its running pods:
//!
//! ```text
//! /run/ripstop/NAME/mnt/         a private mount (holder)
//! /run/ripstop/NAME/mnt/NODE     the namespace, bound onto a file
//! ```
//!
//! What the machine mounts later appears inside (propagation `slave`), nothing inside appears on
//! the machine. When the file is unmounted and the last process inside has ended, the namespace
//! goes, with everything that was mounted in it.
//!
//! The calling thread never changes namespace: the work is done in a thread that ends with it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::{io, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::statfs;

use crate::context::Context;
use crate::mountinfo;

/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Makes a mount namespace, runs `set_up` inside it and keeps it at `path`.
///
/// The folder of `path` becomes a private mount if it isn't one: the kernel refuses to bind a
/// mount namespace where the bind would propagate into that same namespace.
///
/// # Errors
/// When the kernel refuses a step (root is needed), or `set_up` fails; nothing is left then.
pub fn create(path: &Path, set_up: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    let holder = path.parent().unwrap_or(Path::new("/"));
    make_holder(holder)?;
    let namespace = in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).context(|| "make a mount namespace")?;
        cut_loose()?;
        set_up()?;
        File::open("/proc/thread-self/ns/mnt").context(|| "open the new mount namespace")
    })?;
    File::create(path).context(|| format!("create {}", path.display()))?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let bound = bind_one(Path::new(&source), path);
    if bound.is_err() {
        // The error of the bind says more than a failure to tidy up after it.
        let _ = fs::remove_file(path);
    }
    bound
}

/// Whether a namespace is kept at `path`.
#[must_use]
pub fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type().0 == NSFS_MAGIC)
}

/// Runs `work` inside the namespace kept at `path`.
///
/// # Errors
/// When the namespace can't be entered, or `work` fails.
pub fn enter<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(path).context(|| format!("open the mount namespace {}", path.display()))?;
    in_thread(|| {
        // A thread shares its root and working directory with its process until told otherwise,
        // and the kernel only moves a thread that doesn't.
        unshare(CloneFlags::CLONE_FS).context(|| "leave the process's working directory")?;
        setns(&namespace, CloneFlags::CLONE_NEWNS)
            .context(|| format!("enter the mount namespace {}", path.display()))?;
        work()
    })
}

/// Lets go of the namespace kept at `path`; does nothing when there is none.
///
/// # Errors
/// When the file can't be unmounted or removed.
pub fn remove(path: &Path) -> io::Result<()> {
    while exists(path) {
        umount2(path, MntFlags::MNT_DETACH).context(|| format!("unmount {}", path.display()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Shows the folder or file `source` at `target` too, in the calling thread's namespace.
///
/// # Errors
/// When the kernel refuses; both must exist.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    bind_one(source, target)
}

/// Makes the bind mount at `target` one that can't be written, in the calling thread's namespace.
///
/// # Errors
/// When the kernel refuses; `target` must be a mount.
pub fn make_read_only(target: &Path) -> io::Result<()> {
    let none = None::<&PathBuf>;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(none, target, none, flags, none).context(|| format!("make {} read-only", target.display()))
}

/// Unmounts everything at `dir` and below it, in the calling thread's namespace.
///
/// # Errors
/// When the mounts can't be listed or one can't be detached.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    let mut targets = mountinfo::targets_below(dir)?.into_iter();
    targets.try_for_each(|target| detach(&target))
}

/// Detaches a mount that was there a moment ago: it may be gone by now, with one that was above it or
/// because whoever made it has unmounted it.
fn detach(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH) {
        Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        result => result.context(|| format!("unmount {}", target.display())),
    }
}

/// Whether overlayfs can be mounted here, tried in a namespace that goes at once.
///
/// # Errors
/// The kernel's refusal.
pub fn try_overlay() -> io::Result<()> {
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).context(|| "make a mount namespace")?;
        set_propagation(Path::new("/"), MsFlags::MS_PRIVATE | MsFlags::MS_REC)?;
        let base = Path::new("/proc");
        mount_new("tmpfs", base, None)?;
        for dir in ["lower", "upper", "work", "merged"] {
            fs::create_dir(base.join(dir))?;
        }
        let options = "lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work";
        mount_new("overlay", &base.join("merged"), Some(options))
    })
}

/// Makes `dir` a mount whose content stays in this namespace.
fn make_holder(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir).context(|| format!("create {}", dir.display()))?;
    let dir = fs::canonicalize(dir)?;
    let mounts = mountinfo::mounts()?;
    if !mounts.iter().any(|mount| mount.target == dir) {
        bind_one(&dir, &dir)?;
    }
    set_propagation(&dir, MsFlags::MS_PRIVATE)
}

/// Run in the new namespace: what is mounted from now on stays inside.
fn cut_loose() -> io::Result<()> {
    set_propagation(Path::new("/"), MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
    // As on any node: mounts made here reach the containers that ask for them.
    set_propagation(Path::new("/"), MsFlags::MS_SHARED | MsFlags::MS_REC)?;
    // The copy of another namespace's handle would keep that namespace alive for as long as
    // this one lives: a stopped node's links would stay.
    let handles = mountinfo::mounts()?.into_iter().rev();
    let mut handles = handles.filter(|mount| mount.fstype == "nsfs");
    handles.try_for_each(|handle| detach(&handle.target))
}

fn bind_one(source: &Path, target: &Path) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none)
        .context(|| format!("bind {} to {}", source.display(), target.display()))
}

fn mount_new(fstype: &str, target: &Path, options: Option<&str>) -> io::Result<()> {
    mount(Some(fstype), target, Some(fstype), MsFlags::empty(), options).context(|| format!("mount {fstype}"))
}

fn set_propagation(target: &Path, propagation: MsFlags) -> io::Result<()> {
    let none = None::<&PathBuf>;
    mount(none, target, none, propagation, none)
        .context(|| format!("set the propagation of {}", target.display()))
}

/// Runs `work` in a thread of its own, whose namespaces nobody inherits.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().spawn_scoped(scope, work)?;
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests;
