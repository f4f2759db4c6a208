//! Signals as PID 1 has to take them: blocked, then waited for one by one.
//!
//! The kernel doesn't deliver a signal to PID 1 whose action is the default,
//! so a process that wants to be ended politely has to ask. Waiting instead of
//! handling leaves nothing that runs in the middle of something else.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// SIGTERM, SIGINT and SIGCHLD, blocked in the thread that called
/// [`Signals::block`] and in every thread it starts afterwards.
pub(crate) struct Signals(SigSet);

impl Signals {
    /// Blocks the signals: to be called before the first thread is started.
    pub(crate) fn block() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self(set))
    }

    /// Sleeps until somebody asks this process to end; reaps children meanwhile.
    pub(crate) fn wait_for_end(&self) {
        loop {
            match self.0.wait() {
                Ok(Signal::SIGCHLD) => reap(),
                Ok(_) => return,
                Err(Errno::EINTR) => {}
                // The set is valid, so nothing else can be answered; ending is
                // better than a loop that never sleeps.
                Err(_) => return,
            }
        }
    }
}

/// Collects every child that has ended: signals of one kind don't queue, so
/// one SIGCHLD may stand for many.
fn reap() {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
