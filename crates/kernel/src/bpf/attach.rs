//! Our programs on a link or a control group: whether they are there, and making it so.

use std::os::fd::{AsFd, OwnedFd};

use super::hooks::Hooks;
use super::sockets;
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
pub(super) struct Program {
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
    pub(super) name: String,
}

/// The loaded programs.
pub(crate) struct Programs {
    hooks: Hooks,
    from_pod: Program,
    to_pod: Program,
    from_wire: Program,
    to_wire: Program,
    sockets: [Program; 9],
}

impl Programs {
    /// Those on links, and those on sockets in the order of [`sockets::HOOKS`].
    pub(super) fn new(links: [OwnedFd; 4], on_sockets: [OwnedFd; 9], hooks: Hooks) -> Result<Programs> {
        let [from_pod, to_pod, from_wire, to_wire] = describe(links)?;
        Ok(Programs {
            hooks,
            from_pod,
            to_pod,
            from_wire,
            to_wire,
            sockets: describe(on_sockets)?,
        })
    }

    /// Puts the programs for sockets on a control group, in place of an older version's if those are
    /// there; says how many were written.
    pub(crate) fn ensure_sockets(&self, group: &str) -> Result<usize> {
        sockets::ensure(&self.sockets, group)
    }

    /// Puts the role's programs on a link of the calling thread's namespace, in place of an older
    /// version's if those are there; says how many were written.
    pub(crate) fn ensure(&self, link: u32, role: Role) -> Result<usize> {
        let mut writes = 0;
        for (side, program) in self.of(role) {
            writes += self.ensure_one(link, side, program)?;
        }
        Ok(writes)
    }

    /// Whether the role's programs, and none of ours beside them, are on the link.
    pub(crate) fn are_on(&self, link: u32, role: Role) -> Result<bool> {
        for (side, program) in self.of(role) {
            if self.hooks.ours(link, side)? != [program.id] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether any program of ours, of whichever version, is on a link.
    pub(crate) fn any_on(&self, link: u32) -> Result<bool> {
        self.hooks.carry_ours(link)
    }

    fn ensure_one(&self, link: u32, side: Side, program: &Program) -> Result<usize> {
        let found = self.hooks.ours(link, side)?;
        let mut writes = 0;
        let has = found.contains(&program.id);
        let mut others = found.into_iter().filter(|id| *id != program.id);
        if !has {
            self.hooks.attach(link, side, program, others.next())?;
            writes += 1;
        }
        for other in others {
            self.hooks.detach(link, side, other)?;
            writes += 1;
        }
        Ok(writes)
    }

    fn of(&self, role: Role) -> [(Side, &Program); 2] {
        match role {
            Role::Pod => [(Side::Egress, &self.to_pod), (Side::Ingress, &self.from_pod)],
            Role::Wire => [(Side::Egress, &self.to_wire), (Side::Ingress, &self.from_wire)],
        }
    }
}

fn describe<const N: usize>(fds: [OwnedFd; N]) -> Result<[Program; N]> {
    let mut programs = Vec::with_capacity(N);
    for fd in fds {
        let described = sys::describe(fd.as_fd());
        let (id, name) = described.map_err(|error| Error::bpf("ask about a program", &error))?;
        programs.push(Program { fd, id, name });
    }
    let all = programs.try_into();
    Ok(all.unwrap_or_else(|_| unreachable!("one for each")))
}
