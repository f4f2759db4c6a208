//! Processes inside namespaces and cgroups, and processes known beyond the life of their parent.
//!
//! [`prepare`] sets a command up to start in a [`Place`]; the program then runs in a session of
//! its own and outlives its parent (no parent-death signal).
//!
//! A pid alone is not an identity: the number is used again. [`ProcessId`] is pid plus start
//! time, and [`Process`] holds a pidfd that was checked against both, so that no signal ever
//! reaches a stranger.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::unistd;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::cgroup::Group;
use crate::context::Context;

/// Where a program is to run; what is left out is as for the parent.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The file of a network namespace, such as `/run/netns/NAME`.
    pub netns: Option<PathBuf>,
    /// The file of a mount namespace, see [`crate::mountns`].
    pub mountns: Option<PathBuf>,
    /// A control group that exists.
    pub cgroup: Option<Group>,
    /// The host name that it and its children see, without changing anybody else's.
    pub hostname: Option<String>,
}

/// Sets `command` up to start in `place`, as the leader of a new session.
///
/// The program is looked up inside the mount namespace. Nothing changes for the caller.
///
/// # Errors
/// When a namespace or the control group isn't there.
pub fn prepare(command: &mut Command, place: &Place) -> io::Result<()> {
    let open = |path: &PathBuf| File::open(path).context(|| format!("open the namespace {}", path.display()));
    let mountns = place.mountns.as_ref().map(open).transpose()?;
    let netns = place.netns.as_ref().map(open).transpose()?;
    let doors = match &place.cgroup {
        Some(group) => group.open_procs()?,
        None => Vec::new(),
    };
    let hostname = place.hostname.clone();
    let enter = move || -> io::Result<()> {
        unistd::setsid()?;
        close_strangers_on_exec();
        for door in &doors {
            // 0 stands for the writer.
            unistd::write(door, b"0")?;
        }
        if let Some(namespace) = &netns {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(namespace) = &mountns {
            setns(namespace, CloneFlags::CLONE_NEWNS)?;
        }
        if let Some(hostname) = &hostname {
            unshare(CloneFlags::CLONE_NEWUTS)?;
            unistd::sethostname(hostname)?;
        }
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "namespaces are per process: they have to change between fork and exec"
    )]
    // SAFETY: after a fork of a program with threads only async-signal-safe calls are allowed.
    // The closure makes bare system calls (setsid, close_range, write, setns, unshare, sethostname) on descriptors that were opened
    // before the fork, and neither allocates nor takes a lock: an `Errno` becomes an `io::Error`
    // without allocation.
    unsafe {
        command.pre_exec(enter);
    }
    Ok(())
}

/// Descriptors that the caller's caller left open (the lock of a `flock` around `ripstop up`, say)
/// aren't the program's: it would hold them for as long as it lives.
fn close_strangers_on_exec() {
    const FIRST_BEYOND_STANDARD: libc::c_uint = 3;
    #[expect(unsafe_code, reason = "no crate has this call")]
    // SAFETY: it only marks descriptors to be closed by exec; it neither allocates nor locks.
    unsafe {
        // Before Linux 5.11 it isn't there, and they stay open: no reason not to start.
        libc::close_range(
            FIRST_BEYOND_STANDARD,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        );
    }
}

/// Appends what the program prints to `log`, and gives it nothing to read.
///
/// # Errors
/// When the file can't be opened.
pub fn log_to(command: &mut Command, log: &Path) -> io::Result<()> {
    // Appending, so that whoever cuts the file short needs no help of the program.
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .context(|| format!("open the log {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    Ok(())
}

/// A process, told apart from later ones that get the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// The number.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub start_time: u64,
}

/// A namespace or an executable, as the file system identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    dev: u64,
    ino: u64,
}

impl Inode {
    /// The file that `path` leads to; `None` when there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }
}

impl ProcessId {
    /// The process that has this pid now; `None` when there is none, or only what is left of one
    /// that has ended (a zombie).
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = parse_stat(&stat)?;
        let ended = matches!(state, 'Z' | 'X' | 'x');
        (!ended).then_some(Self { pid, start_time })
    }

    /// The calling process.
    ///
    /// # Panics
    /// When `/proc` isn't mounted.
    #[must_use]
    pub fn current() -> Self {
        Self::of(std::process::id()).expect("/proc is mounted and this process is alive")
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// When it started; `None` when `/proc` doesn't tell.
    #[must_use]
    pub fn started(self) -> Option<SystemTime> {
        let ticks = unistd::sysconf(unistd::SysconfVar::CLK_TCK).ok()??;
        let after_boot = self.start_time as f64 / ticks as f64;
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
        let age = Duration::try_from_secs_f64(uptime - after_boot).unwrap_or_default();
        SystemTime::now().checked_sub(age)
    }

    /// Gets hold of the process; `None` when it has ended.
    ///
    /// # Errors
    /// When the kernel has no pidfd to give (none before Linux 5.3, or too many open files).
    pub fn open(self) -> io::Result<Option<Process>> {
        let fd = match pidfd_open(self.pid) {
            Ok(fd) => fd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error).context(|| format!("watch process {}", self.pid)),
        };
        // Only now: the descriptor stays with whatever had the number when it was opened.
        Ok(self.is_alive().then_some(Process { id: self, fd }))
    }

    /// The arguments it was started with; empty when it has ended.
    #[must_use]
    pub fn command_line(self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        if !self.is_alive() {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\0').unwrap_or(&text);
        text.split('\0').map(str::to_owned).collect()
    }

    /// The program it runs.
    #[must_use]
    pub fn executable(self) -> Option<Inode> {
        self.link("exe")
    }

    /// The namespace that it is in, of a kind such as `net` or `mnt`.
    #[must_use]
    pub fn namespace(self, kind: &str) -> Option<Inode> {
        self.link(&format!("ns/{kind}"))
    }

    fn link(self, name: &str) -> Option<Inode> {
        let inode = Inode::of(Path::new(&format!("/proc/{}/{name}", self.pid)))?;
        self.is_alive().then_some(inode)
    }
}

/// A process that is held by a descriptor, child or not.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    fd: OwnedFd,
}

impl Process {
    /// Which process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends a signal; does nothing when the process has ended.
    ///
    /// # Errors
    /// When the kernel doesn't allow it.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.fd.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result.context(|| format!("send {signal} to process {}", self.id.pid)),
        }
    }

    /// Waits for its end. A child stays to be reaped by its parent.
    ///
    /// # Errors
    /// When the descriptor can't be watched.
    pub async fn ended(&self) -> io::Result<()> {
        // A copy: the same descriptor can't be registered by two who wait.
        let fd = self.fd.try_clone()?;
        #[expect(unsafe_code, reason = "the safe constructor is deprecated")]
        // SAFETY: an `OwnedFd` that is moved in stays open, and the same, until it is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? };
        let _ready = fd.readable().await?;
        Ok(())
    }

    /// Asks it to end (`SIGTERM`), waits for `grace`, and then ends it (`SIGKILL`).
    ///
    /// # Errors
    /// When it can't be signalled or watched.
    pub async fn terminate(&self, grace: Duration) -> io::Result<()> {
        self.signal(Signal::SIGTERM)?;
        if let Ok(ended) = tokio::time::timeout(grace, self.ended()).await {
            return ended;
        }
        self.signal(Signal::SIGKILL)?;
        self.ended().await
    }
}

impl Process {
    /// A copy of one of its open descriptors.
    pub(crate) fn copy_descriptor(&self, number: RawFd) -> io::Result<OwnedFd> {
        #[expect(unsafe_code, reason = "neither std nor nix offers pidfd_getfd")]
        // SAFETY: the call takes three integers. A result that isn't negative is a new descriptor
        // (close-on-exec) that nobody else owns.
        unsafe {
            let fd = Errno::result(libc::syscall(
                libc::SYS_pidfd_getfd,
                self.fd.as_raw_fd(),
                number,
                0,
            ))?;
            let fd = i32::try_from(fd).map_err(io::Error::other)?;
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// State and start time, fields 3 and 22 of `/proc/PID/stat`.
fn parse_stat(stat: &[u8]) -> Option<(char, u64)> {
    // The second field is the program's name in parentheses, and may hold blanks and parentheses.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "neither std nor nix offers pidfd_open")]
    // SAFETY: the call takes two integers. A result that isn't negative is a new descriptor
    // (close-on-exec) that nobody else owns.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn pidfd_send_signal(fd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    #[expect(unsafe_code, reason = "neither std nor nix offers pidfd_send_signal")]
    // SAFETY: the descriptor is open for as long as it is borrowed; the null pointer asks for
    // the same details as kill(2) gives.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
mod tests;
