//! Ports of the node's loopback that lead to pods, with the sockets that went by them.

use model::Protocol;
use plan::LoopbackPort;

use crate::Result;
use crate::apply::Kernel;

impl Kernel {
    /// Writes a port, over whatever is there. Kernels that don't say which namespace is whose have none.
    pub(crate) fn put_loopback(&self, port: &LoopbackPort) -> Result<usize> {
        let Ok(own) = self.netns.cookie() else {
            return Ok(0);
        };
        self.bpf.get()?.put_loopback(port, own)?;
        self.leave_loopback(port)?;
        Ok(1)
    }

    /// Removes a port; false if it isn't there.
    pub(crate) fn remove_loopback(&self, port: &LoopbackPort) -> Result<bool> {
        // What could never be loaded holds nothing.
        let Ok(bpf) = self.bpf.get() else {
            return Ok(false);
        };
        let removed = bpf.remove_loopback(port)?;
        self.leave_loopback(port)?;
        Ok(removed)
    }

    /// Ends the datagrams' sockets that are connected by it: whom they led to may be another one by now.
    fn leave_loopback(&self, port: &LoopbackPort) -> Result<()> {
        if port.protocol != Protocol::Udp {
            return Ok(());
        }
        let sockets = self.services()?.forget_datagrams(|at, _| {
            (at.address, at.port, at.protocol) == (port.address, port.port, port.protocol.number())
        })?;
        self.end_datagrams(&sockets).map(drop)
    }
}
