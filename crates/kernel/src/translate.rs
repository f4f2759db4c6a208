//! A plan's objects as netlink's: names of links become indexes.

use std::collections::HashMap;

use plan::NextHop;

use crate::fdb::Fdb;
use crate::link::Link;
use crate::neigh::Neighbour;
use crate::route::Route;
use crate::{Netlink, Result};

/// Indexes of links by name, asked for once each.
#[derive(Debug)]
pub(crate) struct Indexes<'a> {
    netlink: &'a Netlink,
    known: HashMap<String, u32>,
}

impl<'a> Indexes<'a> {
    /// None known yet.
    pub(crate) fn new(netlink: &'a Netlink) -> Indexes<'a> {
        Indexes {
            netlink,
            known: HashMap::new(),
        }
    }

    /// Those of a dump.
    pub(crate) fn known(netlink: &'a Netlink, links: &[Link]) -> Indexes<'a> {
        let known = links.iter().map(|link| (link.name.clone(), link.index)).collect();
        Indexes { netlink, known }
    }

    /// A link has this index now.
    pub(crate) fn learn(&mut self, name: &str, index: u32) {
        self.known.insert(name.to_owned(), index);
    }

    /// A link is gone.
    pub(crate) fn forget(&mut self, name: &str) {
        self.known.remove(name);
    }

    pub(crate) async fn get(&mut self, name: &str) -> Result<u32> {
        if let Some(index) = self.known.get(name) {
            return Ok(*index);
        }
        let index = self.netlink.link_index(name).await?;
        self.learn(name, index);
        Ok(index)
    }

    pub(crate) async fn route(&mut self, route: &plan::Route) -> Result<Route> {
        let found = match &route.to {
            NextHop::Unreachable => Route::unreachable(route.destination),
            NextHop::Link(link) => Route::to_link(route.destination, self.get(link).await?),
            NextHop::Via { gateway, link } => Route::via(route.destination, *gateway, self.get(link).await?),
            NextHop::OnLink { gateway, link } => Route {
                onlink: true,
                ..Route::via(route.destination, *gateway, self.get(link).await?)
            },
        };
        Ok(Route {
            source: route.source,
            mtu: route.mtu,
            ..found
        })
    }

    pub(crate) async fn fdb(&mut self, fdb: &plan::Fdb) -> Result<Fdb> {
        Ok(Fdb {
            link: self.get(&fdb.link).await?,
            mac: fdb.mac,
            remote: fdb.remote,
        })
    }

    pub(crate) async fn neighbour(&mut self, neighbour: &plan::Neighbour) -> Result<Neighbour> {
        let link = self.get(&neighbour.link).await?;
        Ok(Neighbour {
            link,
            address: neighbour.address,
            mac: neighbour.mac,
        })
    }
}
