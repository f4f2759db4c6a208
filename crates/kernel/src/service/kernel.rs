//! Services as part of what a node's kernel holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Instant;

use model::ServiceName;
use plan::{Part, PartId};

use super::{Outcome, Services, Stale};
use crate::conntrack::Which;
use crate::{Applied, Kernel, Result};

impl Kernel {
    /// Makes the kernel hold these Services and no others, writing only what differs.
    pub async fn apply_all_services(&self, parts: &BTreeMap<&ServiceName, &Part>) -> Result<Applied> {
        let outcome = self.change_services(|services, kernel| {
            let maps = kernel.services()?;
            Ok(services.apply_all(&*maps, &kernel.nft, parts, Instant::now()))
        })?;
        self.finish(outcome).await
    }

    /// Makes the kernel hold these Services as they're to be, or not at all, and leaves the others as
    /// they are. It costs as much as the change is large.
    pub async fn apply_services(&self, changes: &BTreeMap<&ServiceName, Option<&Part>>) -> Result<Applied> {
        let outcome = self.change_services(|services, kernel| {
            let maps = kernel.services()?;
            Ok(services.apply(&*maps, &kernel.nft, changes, Instant::now()))
        })?;
        self.finish(outcome).await
    }

    /// Counts anew the connections that netfilter translates, for the strategy of the fewest: links' programs see
    /// them begin, and conntrack knows when they're over. Says how many endpoints' were counted; where
    /// nobody wants to know that's none, and costs nothing.
    pub fn count_translated(&self) -> Result<usize> {
        let held = || self.services.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing was written yet, so nothing was picked.
        if held().is_none() {
            return Ok(0);
        }
        let maps = self.services()?;
        let known = maps.translated()?.into_iter();
        let mut counts: HashMap<u32, u64> = known.map(|(id, _)| (id, 0)).collect();
        if counts.is_empty() {
            return Ok(0);
        }
        let connections = self.conntrack.connections(Which::Translated)?.into_iter();
        let open = connections.filter(|connection| connection.is_translated() && !connection.is_over);
        let open: Vec<_> = open.map(|connection| connection.reply.source).collect();
        if let Some(services) = held().as_ref() {
            for socket in &open {
                let id = services.backends.id(socket);
                if let Some(count) = id.and_then(|id| counts.get_mut(&id)) {
                    *count += 1;
                }
            }
        }
        let counts: Vec<_> = counts.into_iter().collect();
        maps.put_translated(&counts)?;
        Ok(counts.len())
    }

    /// Forgets TCP connections that nobody answers because their endpoints are gone, so that the next attempt from
    /// the same port gets another one; those that a call a moment ago has seen. Says how many.
    pub fn forget_unanswered(&self) -> Result<usize> {
        let mut held = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(services) = held.as_mut() else {
            return Ok(0);
        };
        let is_there = |socket: &SocketAddr| services.backends.id(socket).is_some();
        services.unanswered.forget(&self.conntrack, is_there)
    }

    /// Our table was made anew, without what it held for Services.
    pub(crate) async fn translate_again(&self) -> Result<usize> {
        let held = self
            .services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if !held {
            return Ok(0);
        }
        let outcome = self.change_services(|services, kernel| {
            services.forget_translations();
            let maps = kernel.services()?;
            Ok(services.apply(&*maps, &kernel.nft, &BTreeMap::new(), Instant::now()))
        })?;
        Ok(self.finish(outcome).await?.writes)
    }

    fn change_services(
        &self,
        change: impl FnOnce(&mut Services, &Kernel) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let mut held = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let services = match held.as_mut() {
            Some(services) => services,
            None => held.insert(Services::read(&*self.services()?)?),
        };
        change(services, self)
    }

    /// Sees to the connections that a change leaves behind.
    async fn finish(&self, outcome: Outcome) -> Result<Applied> {
        let mut applied = Applied::default();
        applied.writes = outcome.writes;
        let failures = outcome.failures.into_iter();
        applied.failures = failures.map(|(name, error)| (part_of(name), error)).collect();
        if !outcome.stale.is_empty() {
            applied.writes += self.forget_stale(&outcome.stale).await?;
        }
        Ok(applied)
    }

    async fn forget_stale(&self, stale: &Stale) -> Result<usize> {
        let addresses = self.netlink.addresses().await?.into_iter();
        let own: BTreeSet<IpAddr> = addresses.map(|address| address.address.addr()).collect();
        let forgotten = stale.forget(&self.conntrack, &own)?;
        let (choices, sockets) = stale.forget_choices(&*self.services()?, &own)?;
        self.end_datagrams(&sockets)?;
        Ok(forgotten + choices)
    }
}

/// What is nobody's in particular is the base's.
fn part_of(name: ServiceName) -> PartId {
    if name == ServiceName::default() {
        PartId::Base
    } else {
        PartId::Service(name)
    }
}
