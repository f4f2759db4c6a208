//! Our programs on a link: whether they are there, and making it so.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bpf_abi::program::PREFIX;

use super::sys::{self, Side};
use crate::{Error, Result};

/// What a link is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The node's end of a pod's link.
    Pod,
    /// A link to other nodes.
    Wire,
}

/// A loaded program.
struct Program {
    fd: OwnedFd,
    id: u32,
}

/// The loaded programs.
pub(crate) struct Programs {
    from_pod: Program,
    to_pod: Program,
    from_wire: Program,
    to_wire: Program,
}

/// A program of ours, of whichever version, that is on a link.
struct Found {
    id: u32,
    fd: OwnedFd,
}

impl Programs {
    pub(super) fn new(fds: [OwnedFd; 4]) -> Result<Programs> {
        let [from_pod, to_pod, from_wire, to_wire] = fds.map(|fd| {
            let (id, _) = sys::describe(fd.as_fd()).map_err(failed("ask about a program"))?;
            Ok::<_, Error>(Program { fd, id })
        });
        Ok(Programs {
            from_pod: from_pod?,
            to_pod: to_pod?,
            from_wire: from_wire?,
            to_wire: to_wire?,
        })
    }

    /// Puts the role's programs on a link of the calling thread's namespace, in place of an older
    /// version's if those are there; says how many were written.
    pub(crate) fn ensure(&self, link: u32, role: Role) -> Result<usize> {
        let mut writes = 0;
        for (side, program) in self.of(role) {
            writes += ensure(link, side, program).map_err(failed("put a program on a link"))?;
        }
        Ok(writes)
    }

    /// Whether the role's programs, and none of ours beside them, are on the link.
    pub(crate) fn are_on(&self, link: u32, role: Role) -> Result<bool> {
        for (side, program) in self.of(role) {
            let found = found(link, side).map_err(failed("ask for a link's programs"))?;
            if !matches!(found.as_slice(), [only] if only.id == program.id) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn of(&self, role: Role) -> [(Side, &Program); 2] {
        match role {
            Role::Pod => [(Side::Egress, &self.to_pod), (Side::Ingress, &self.from_pod)],
            Role::Wire => [(Side::Egress, &self.to_wire), (Side::Ingress, &self.from_wire)],
        }
    }
}

/// Whether any program of ours is on a link of the calling thread's namespace.
pub(crate) fn carries_ours(link: u32) -> Result<bool> {
    for side in [Side::Ingress, Side::Egress] {
        if !found(link, side)
            .map_err(failed("ask for a link's programs"))?
            .is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes our programs off a link of the calling thread's namespace; false if there were none.
pub(crate) fn remove(link: u32) -> Result<bool> {
    let mut removed = false;
    for side in [Side::Ingress, Side::Egress] {
        let failed = || failed("take a program off a link");
        for program in found(link, side).map_err(failed())? {
            sys::detach(link, side, program.fd.as_fd()).map_err(failed())?;
            removed = true;
        }
    }
    Ok(removed)
}

fn ensure(link: u32, side: Side, program: &Program) -> io::Result<usize> {
    let found = found(link, side)?;
    let mut writes = 0;
    let has = found.iter().any(|found| found.id == program.id);
    let mut others = found.iter().filter(|found| found.id != program.id);
    if !has {
        let replaced = others.next().map(|other| other.fd.as_fd());
        sys::attach(link, side, program.fd.as_fd(), replaced)?;
        writes += 1;
    }
    for other in others {
        sys::detach(link, side, other.fd.as_fd())?;
        writes += 1;
    }
    Ok(writes)
}

/// Our programs on one side of a link.
fn found(link: u32, side: Side) -> io::Result<Vec<Found>> {
    let mut ours = Vec::new();
    for id in sys::attached(link, side)? {
        let fd = match sys::open(id) {
            Ok(fd) => fd,
            // Taken off meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(error),
        };
        let (_, name) = sys::describe(fd.as_fd())?;
        if name.starts_with(PREFIX) {
            ours.push(Found { id, fd });
        }
    }
    Ok(ours)
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::bpf(action, &error)
}
