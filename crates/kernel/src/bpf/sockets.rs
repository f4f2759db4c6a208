//! Our programs on a node's control group, for what its sockets do.
//!
//! The group is the node's own where nodes share a kernel, so that each has its own Services, and the
//! root elsewhere. Programs live as long as the group; one takes another's place in one step.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use bpf_abi::program;

use super::attach::Program;
use super::sys::{self, SocketHook};
use crate::cgroup::Hierarchies;
use crate::{Error, Result};

/// What each program hangs on.
pub(super) const HOOKS: [(&str, SocketHook); 9] = [
    (program::RELEASE, SocketHook::Release),
    // What says the Service's name to a socket comes before what has it talk to a backend.
    (program::GETPEER4, SocketHook::GetPeer4),
    (program::GETPEER6, SocketHook::GetPeer6),
    (program::RECVMSG4, SocketHook::RecvMsg4),
    (program::RECVMSG6, SocketHook::RecvMsg6),
    (program::CONNECT4, SocketHook::Connect4),
    (program::CONNECT6, SocketHook::Connect6),
    (program::SENDMSG4, SocketHook::SendMsg4),
    (program::SENDMSG6, SocketHook::SendMsg6),
];

/// Puts the programs, in the order of [`HOOKS`], on a group, in place of an older version's if those are
/// there; says how many were written.
pub(super) fn ensure(programs: &[Program; 9], group: &str) -> Result<usize> {
    let dir = open(group)?;
    let mut writes = 0;
    for (program, (_, hook)) in programs.iter().zip(HOOKS) {
        let put = ensure_one(dir.as_fd(), hook, program);
        writes += put.map_err(|error| failed(&format!("put {} on", program.name), group, &error))?;
    }
    Ok(writes)
}

/// Takes our programs, of whichever version, off a group; false if there were none, or no such group.
pub(crate) fn clear(group: &str) -> Result<bool> {
    let dir = match open(group) {
        Ok(dir) => dir,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut removed = false;
    for (_, hook) in HOOKS.into_iter().rev() {
        let clear = || -> io::Result<bool> {
            let found = ours(dir.as_fd(), hook)?;
            for id in &found {
                sys::detach_from_group(dir.as_fd(), hook, sys::open(*id)?.as_fd())?;
            }
            Ok(!found.is_empty())
        };
        removed |= clear().map_err(|error| failed("take our programs off", group, &error))?;
    }
    Ok(removed)
}

fn ensure_one(group: BorrowedFd<'_>, hook: SocketHook, program: &Program) -> io::Result<usize> {
    let found = ours(group, hook)?;
    let has = found.contains(&program.id);
    let mut others = found.into_iter().filter(|id| *id != program.id);
    let mut writes = 0;
    if !has {
        let replaced = others.next().map(sys::open).transpose()?;
        let replaced = replaced.as_ref().map(AsFd::as_fd);
        sys::attach_to_group(group, hook, program.fd.as_fd(), replaced)?;
        writes += 1;
    }
    for other in others {
        sys::detach_from_group(group, hook, sys::open(other)?.as_fd())?;
        writes += 1;
    }
    Ok(writes)
}

/// Ids of our programs, of whichever version, on a hook of the group itself.
fn ours(group: BorrowedFd<'_>, hook: SocketHook) -> io::Result<Vec<u32>> {
    let mut ours = Vec::new();
    for id in sys::attached_to_group(group, hook)? {
        let opened = match sys::open(id) {
            Ok(opened) => opened,
            // Taken off meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(error),
        };
        let (_, name) = sys::describe(opened.as_fd())?;
        if name.starts_with(program::PREFIX) {
            ours.push(id);
        }
    }
    Ok(ours)
}

fn open(group: &str) -> Result<File> {
    let hierarchies = Hierarchies::detect().map_err(|error| failed("open", group, &error))?;
    let Some(unified) = hierarchies.iter().find(|hierarchy| hierarchy.unified) else {
        return Err(Error::NoCgroup2);
    };
    let path = unified.root.join(Path::new(group.trim_start_matches('/')));
    File::open(&path).map_err(|error| failed("open", group, &error))
}

fn failed(action: &str, group: &str, error: &io::Error) -> Error {
    let needs = match error.raw_os_error() {
        Some(libc::EINVAL) => "; the kernel must be Linux 5.10 or newer, with CONFIG_CGROUP_BPF",
        Some(libc::EPERM) => {
            "; a program that tolerates no others may hang on a group above it: `bpftool cgroup tree` shows it"
        }
        _ => "",
    };
    Error::bpf(format!("{action} the cgroup {group}{needs}"), error)
}
