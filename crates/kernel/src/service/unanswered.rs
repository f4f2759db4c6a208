//! TCP connections that an endpoint which is gone hasn't answered.
//!
//! A connection keeps the translation that it began with, and one that nobody answers is remembered for two minutes
//! after its last attempt. All attempts from the same port of the same client, the kernel's own repetitions before
//! all, would go the same way, though the endpoint is known to be gone and another one would answer. So would those
//! that a socket was led to the endpoint by and that have passed the network stack untranslated. So they are
//! forgotten, one by one; not at once, as an answer may be on its way from an endpoint that has just left.

use std::collections::HashSet;
use std::net::SocketAddr;

use model::Protocol;

use crate::Result;
use crate::conntrack::{Connection, Conntrack, Which};

/// What is waited for.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// Endpoints that have left since the last look.
    left: HashSet<SocketAddr>,
    /// Connections to such that weren't answered then.
    seen: HashSet<Connection>,
}

impl Unanswered {
    /// An endpoint is nobody's any more.
    pub(super) fn leave(&mut self, socket: SocketAddr) {
        self.left.insert(socket);
    }

    /// Forgets what the last look has seen and nobody has answered since, and looks for what is to be forgotten the
    /// next time: what begins now goes elsewhere. Where no endpoint has left, that costs nothing.
    pub(super) fn forget(
        &mut self,
        conntrack: &Conntrack,
        is_there: impl Fn(&SocketAddr) -> bool,
    ) -> Result<usize> {
        if self.left.is_empty() && self.seen.is_empty() {
            return Ok(0);
        }
        let connections = conntrack.connections(Which::Unanswered)?.into_iter();
        let waiting = connections.filter(|one| {
            let is_unanswered = one.protocol == Protocol::Tcp.number() && !one.is_answered;
            is_unanswered && !is_there(&one.reply.source)
        });
        let (old, new): (Vec<_>, HashSet<_>) = {
            let (old, new): (Vec<_>, Vec<_>) = waiting.partition(|one| self.seen.contains(one));
            let new = new
                .into_iter()
                .filter(|one| self.left.contains(&one.reply.source));
            (old, new.collect())
        };
        let mut forgotten = 0;
        for connection in &old {
            forgotten += usize::from(conntrack.delete(connection)?);
        }
        self.seen = new;
        self.left.clear();
        Ok(forgotten)
    }
}
