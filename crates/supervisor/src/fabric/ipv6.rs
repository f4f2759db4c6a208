//! What our links do with IPv6 by themselves: nothing.
//!
//! By default a link with IPv6 believes every router advertisement that it hears: whoever is on the
//! link (a pod in a node's network, say) could give all nodes and the machine addresses and a
//! default route, in clusters without IPv6 too. Addresses and routes come from us alone, so none of
//! our links listens to routers, and links of a cluster without IPv6 don't speak it.

use kernel::{NetNs, sysctl};

use crate::Error;
use crate::network::{Family, Ranges};

/// No addresses or routes from routers, and none changed by them. No waiting for duplicates: who
/// has which address is decided in `cluster.json`.
const QUIET: [(&str, &str); 4] = [
    ("accept_ra", "0"),
    ("accept_redirects", "0"),
    ("autoconf", "0"),
    ("accept_dad", "0"),
];

/// For a namespace of ours: what is there and what is made later.
pub(super) fn quiet_namespace(netns: &NetNs, ranges: &Ranges) -> Result<(), Error> {
    let links = netns.run(|| sysctl::list("net/ipv6/conf"))??;
    // "all" would reach loopback's ::1, which programs listen on in every kind of cluster.
    let without_loopback = links.iter().filter(|link| !matches!(link.as_str(), "all" | "lo"));
    for link in without_loopback {
        quiet_link(netns, link, ranges)?;
    }
    Ok(())
}

/// For one link.
pub(super) fn quiet_link(netns: &NetNs, link: &str, ranges: &Ranges) -> Result<(), Error> {
    let key = |name: &str| format!("net/ipv6/conf/{link}/{name}");
    // A kernel without IPv6 has nothing to be quiet about; one that a cluster needs is asked for
    // before anything is made.
    let probe = key("disable_ipv6");
    if netns.run(|| sysctl::read(&probe))??.is_none() {
        return Ok(());
    }
    let disable = if ranges.has(Family::V6) { "0" } else { "1" };
    let mut values: Vec<(String, &str)> = QUIET.map(|(name, value)| (key(name), value)).into();
    values.push((key("disable_ipv6"), disable));
    sysctl::write_in(netns, &values)?;
    Ok(())
}
