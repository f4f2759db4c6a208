//! Network namespaces: made and kept as `ip netns` does, opened by path, entered for a while.
//!
//! A thread that changes its namespace is a trap for everything that later runs on it, so work in
//! another namespace happens on a thread of its own ([`NetNs::run`]) that ends with the work.
//! [`NetNsGuard`] is for tests and single-threaded helpers.

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::{panic, thread};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::{Error, Result};

/// Where named namespaces are kept, so that `ip netns exec NAME` finds them.
pub const NETNS_DIR: &str = "/run/netns";

/// The namespace that the reading thread is in.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct NetNs {
    file: OwnedFd,
    path: PathBuf,
    id: (u64, u64),
}

/// What the kernel calls a network namespace as long as the machine runs, and never another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

/// Two are equal if they're the same namespace, by whatever path they were opened.
impl PartialEq for NetNs {
    fn eq(&self, other: &NetNs) -> bool {
        self.id == other.id
    }
}

impl Eq for NetNs {}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl NetNs {
    /// The namespace of the calling thread.
    pub fn current() -> Result<NetNs> {
        NetNs::open(CURRENT)
    }

    /// Opens the namespace that is kept at `path`.
    pub fn open(path: impl AsRef<Path>) -> Result<NetNs> {
        let path = path.as_ref();
        let open = || -> io::Result<NetNs> {
            let file = fs::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_CLOEXEC)
                .open(path)?;
            let metadata = file.metadata()?;
            Ok(NetNs {
                file: file.into(),
                path: path.to_owned(),
                id: (metadata.dev(), metadata.ino()),
            })
        };
        open().map_err(failed("open", path))
    }

    /// Opens the namespace `/run/netns/NAME`.
    pub fn open_named(name: &str) -> Result<NetNs> {
        NetNs::open(named(name))
    }

    /// Makes a namespace without a name: it ends with the last handle, process or link in it.
    pub fn anonymous() -> Result<NetNs> {
        let made = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| failed("create", Path::new(CURRENT))(errno.into()))?;
            NetNs::current()
        })?;
        Ok(NetNs {
            path: PathBuf::from("(anonymous)"),
            ..made
        })
    }

    /// Makes a namespace and keeps it at `/run/netns/NAME`.
    pub fn create_named(name: &str) -> Result<NetNs> {
        prepare_dir(Path::new(NETNS_DIR))?;
        NetNs::create_at(named(name))
    }

    /// Makes a namespace and keeps it at `path`, which must not exist yet.
    pub fn create_at(path: impl AsRef<Path>) -> Result<NetNs> {
        let path = path.as_ref();
        File::options()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(failed("create", path))?;
        let made = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some(CURRENT), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        });
        if let Err(errno) = made {
            // The file holds nothing: leaving it would make the next attempt fail.
            let _ = fs::remove_file(path);
            return Err(failed("create", path)(errno.into()));
        }
        NetNs::open(path)
    }

    /// Removes the name `/run/netns/NAME`; false if there was none.
    pub fn delete_named(name: &str) -> Result<bool> {
        NetNs::delete_at(named(name))
    }

    /// Removes what keeps the namespace at `path`; false if nothing did. The namespace itself ends
    /// when nothing else holds it.
    pub fn delete_at(path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        match umount2(path, MntFlags::MNT_DETACH) {
            // Not a mount point: a file that a crash left behind.
            Ok(()) | Err(nix::Error::EINVAL) => {}
            Err(nix::Error::ENOENT) => return Ok(false),
            Err(errno) => return Err(failed("unmount", path)(errno.into())),
        }
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove", path)(error)),
        }
    }

    /// The names in `/run/netns`, sorted.
    pub fn names() -> Result<Vec<String>> {
        let entries = match fs::read_dir(NETNS_DIR) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", Path::new(NETNS_DIR))(error)),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the kernel calls it. Kernels before 5.14 don't say.
    pub fn cookie(&self) -> Result<Cookie> {
        let cookie = self.run(own_cookie)?;
        cookie
            .map(Cookie)
            .map_err(failed("ask for the cookie of", &self.path))
    }

    /// Runs `work` on a thread of its own inside this namespace and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| {
            self.enter_for_good()?;
            Ok(work())
        })
    }

    /// Moves the calling thread here until the guard is dropped.
    pub fn enter(&self) -> Result<NetNsGuard> {
        let before = NetNs::current()?;
        self.enter_for_good()?;
        Ok(NetNsGuard {
            before,
            not_send: PhantomData,
        })
    }

    /// Moves the calling thread here for good: for a child process before `exec`, or a thread that
    /// does nothing else.
    pub fn enter_for_good(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed("enter", &self.path)(errno.into()))
    }
}

/// Brings the thread back to its own namespace when dropped. It can't be sent to another thread.
#[derive(Debug)]
pub struct NetNsGuard {
    before: NetNs,
    not_send: PhantomData<*const ()>,
}

impl Drop for NetNsGuard {
    fn drop(&mut self) {
        self.before
            .enter_for_good()
            .expect("a thread may always go back to the namespace it came from");
    }
}

/// The path of a named namespace.
pub fn named(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// Makes `dir` a mount point of its own with shared propagation, as `ip netns` does, so that a
/// namespace removed here also disappears from mount namespaces that were copied meanwhile.
fn prepare_dir(dir: &Path) -> Result<()> {
    let prepare = || -> io::Result<()> {
        fs::create_dir_all(dir)?;
        // Others prepare it at the same time; `ip netns` takes the same lock.
        let _lock = Flock::lock(File::open(dir)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let share = || {
            mount(
                None::<&str>,
                dir,
                None::<&str>,
                MsFlags::MS_SHARED | MsFlags::MS_REC,
                None::<&str>,
            )
        };
        if share() == Err(nix::Error::EINVAL) {
            mount(
                Some(dir),
                dir,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            )?;
            share()?;
        }
        Ok(())
    };
    prepare().map_err(failed("prepare the directory of", dir))
}

/// The cookie of the calling thread's namespace; any socket knows it.
fn own_cookie() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: there's room for a cookie, and that's what is said.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(cookie),
        _ => Err(io::Error::last_os_error()),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Netns {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Runs `work` on a fresh thread; its panic becomes ours.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
}
