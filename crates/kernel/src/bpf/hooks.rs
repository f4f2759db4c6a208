//! Where on a link programs hang: tcx, or a clsact queue's filters where the kernel has no tcx.

use std::io;
use std::os::fd::AsFd;

use bpf_abi::program::PREFIX;

use super::attach::Program;
use super::clsact;
use super::sys::{self, Side};
use crate::hurry::Hurry;
use crate::{Error, Result};

/// Where on links of a node its programs hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// On the link itself: Linux 6.6 and newer.
    Tcx,
    /// On the link's clsact queue, as filters: older ones.
    Clsact,
}

impl Hooks {
    /// What this kernel has.
    pub fn probe() -> Hooks {
        if sys::has_tcx() { Hooks::Tcx } else { Hooks::Clsact }
    }

    /// Whether any program of ours is on a link of the calling thread's namespace.
    pub(crate) fn carry_ours(self, link: u32) -> Result<bool> {
        Ok(!self.ours(link, Side::Ingress)?.is_empty() || !self.ours(link, Side::Egress)?.is_empty())
    }

    /// Takes our programs off a link of the calling thread's namespace; false if there were none.
    pub(crate) fn clear(self, link: u32) -> Result<bool> {
        let mut removed = false;
        for side in [Side::Ingress, Side::Egress] {
            for id in self.ours(link, side)? {
                self.detach(link, side, id)?;
                removed = true;
            }
        }
        Ok(removed)
    }

    /// Ids of our programs, of whichever version, on one side of a link.
    pub(super) fn ours(self, link: u32, side: Side) -> Result<Vec<u32>> {
        match self {
            Hooks::Tcx => tcx_ours(link, side).map_err(failed("ask for a link's programs")),
            Hooks::Clsact => clsact::ours(link, side),
        }
    }

    /// Puts a program on one side of a link, in the place of one of ours if that is there; in one step.
    pub(super) fn attach(
        self,
        link: u32,
        side: Side,
        program: &Program,
        replaced: Option<u32>,
    ) -> Result<()> {
        match self {
            Hooks::Tcx => {
                let _hurry = Hurry::up();
                let attach = || {
                    let replaced = replaced.map(sys::open).transpose()?;
                    let replaced = replaced.as_ref().map(AsFd::as_fd);
                    sys::attach(link, side, program.fd.as_fd(), replaced)
                };
                attach().map_err(failed("put a program on a link"))
            }
            Hooks::Clsact => clsact::attach(link, side, program, replaced.is_some()),
        }
    }

    /// Takes a program of ours off one side of a link.
    pub(super) fn detach(self, link: u32, side: Side, id: u32) -> Result<()> {
        match self {
            Hooks::Tcx => {
                let _hurry = Hurry::up();
                let detach = || sys::detach(link, side, sys::open(id)?.as_fd());
                detach().map_err(failed("take a program off a link"))
            }
            Hooks::Clsact => clsact::detach(link, side),
        }
    }
}

fn tcx_ours(link: u32, side: Side) -> io::Result<Vec<u32>> {
    let mut ours = Vec::new();
    for id in sys::attached(link, side)? {
        let program = match sys::open(id) {
            Ok(program) => program,
            // Taken off meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(error),
        };
        let (_, name) = sys::describe(program.as_fd())?;
        if name.starts_with(PREFIX) {
            ours.push(id);
        }
    }
    Ok(ours)
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::bpf(action, &error)
}
