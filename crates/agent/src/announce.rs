//! Holds on its uplink the load balancers' addresses that this node announces, and says so on the link.
//!
//! Each address is held for a few seconds at a time: should the agent end for good, the kernel lets go of it, and
//! another node that has taken it over stands alone. A restart is shorter than that, and so is nothing lost by it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, Netlink, gratuitous};
use model::{MacAddr, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// For how long an address is held, and how often that is renewed.
const HOLD: Duration = Duration::from_secs(8);
const RENEW: Duration = Duration::from_secs(2);
/// A takeover is told several times, for frames get lost; and every address now and then.
const TAKEOVER: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(1000),
];
const REMIND: Duration = Duration::from_secs(30);

/// What announces, and where.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub(crate) netlink: Netlink,
    /// This node's name, and its addresses as configured: the first of them is on the uplink.
    pub(crate) node: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The link to hold addresses on.
struct Uplink {
    index: u32,
    mac: MacAddr,
}

impl Announcer {
    /// Holds what is wanted until `shutdown`, and leaves it as it is then. Before anything is decided, what is held
    /// is held on to.
    pub(crate) async fn run(
        self,
        mut wanted: watch::Receiver<Option<BTreeSet<IpAddr>>>,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        shutdown: CancellationToken,
    ) {
        let mut reminders: Vec<(Instant, BTreeSet<IpAddr>)> = Vec::new();
        let mut remind = Instant::now() + REMIND;
        let mut said = String::new();
        loop {
            let now = Instant::now();
            let addresses = wanted.borrow_and_update().clone();
            match self
                .hold(addresses.as_ref(), &snapshots, &mut reminders, &mut remind)
                .await
            {
                Ok(()) => said.clear(),
                Err(error) if error.to_string() != said => {
                    said = error.to_string();
                    warn!(%error, "load balancers' addresses can't be held; trying again");
                }
                Err(_) => {}
            }
            let next = reminders.iter().map(|(at, _)| *at).chain([now + RENEW]).min();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() { return },
                () = sleep_until(next.unwrap_or(now + RENEW)) => {}
            }
        }
    }

    async fn hold(
        &self,
        wanted: Option<&BTreeSet<IpAddr>>,
        snapshots: &watch::Receiver<Option<Arc<Snapshot>>>,
        reminders: &mut Vec<(Instant, BTreeSet<IpAddr>)>,
        remind: &mut Instant,
    ) -> Result<(), Error> {
        let netlink = &self.netlink;
        let Some(uplink) = self.uplink(snapshots).await? else {
            return Ok(());
        };
        let held: BTreeSet<IpAddr> = netlink.held_addresses(uplink.index).await?.into_iter().collect();
        let wanted = wanted.unwrap_or(&held);
        for address in wanted {
            netlink.hold_address(uplink.index, *address, HOLD).await?;
        }
        for address in held.difference(wanted) {
            netlink.release_address(uplink.index, *address).await?;
            info!(%address, "no longer announced here");
        }
        let now = Instant::now();
        let new: BTreeSet<IpAddr> = wanted.difference(&held).copied().collect();
        if !new.is_empty() {
            info!(addresses = ?new, "announced here");
            reminders.extend(TAKEOVER.map(|after| (now + after, new.clone())));
        }
        if now >= *remind {
            *remind = now + REMIND;
            reminders.push((now, wanted.clone()));
        }
        let mut due = BTreeSet::new();
        reminders.retain(|(at, addresses)| {
            if *at <= now {
                due.extend(addresses.intersection(wanted).copied());
            }
            *at > now
        });
        let due: Vec<IpAddr> = due.into_iter().collect();
        gratuitous::tell(netlink, uplink.index, uplink.mac, &due)
    }

    /// The link that carries the node's address; none as long as that isn't known.
    async fn uplink(
        &self,
        snapshots: &watch::Receiver<Option<Arc<Snapshot>>>,
    ) -> Result<Option<Uplink>, Error> {
        let netlink = &self.netlink;
        let snapshot = snapshots.borrow().clone();
        let of_api =
            || snapshot.and_then(|snapshot| snapshot.nodes.get(&self.node)?.addresses.first().copied());
        let Some(own) = self.addresses.first().copied().or_else(of_api) else {
            return Ok(None);
        };
        let addresses = netlink.addresses().await?;
        let carrier = addresses.iter().find(|address| address.address.addr() == own);
        let index = carrier.ok_or(Error::NoUplink(own))?.link;
        let links = netlink.links().await?;
        let link = links.into_iter().find(|link| link.index == index);
        Ok(link.and_then(|link| {
            Some(Uplink {
                index,
                mac: link.address?,
            })
        }))
    }
}
