//! The name servers of the nodes.
//!
//! A resolver on the machine's loopback (systemd-resolved's 127.0.0.53, a local dnsmasq) can't be
//! reached from a node, whose loopback is its own. What it forwards to can, if it has an address of
//! a family that the cluster has.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::network::{Family, IpFamily};

/// Where systemd-resolved writes what it forwards to.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// A `resolv.conf` for the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// The file's content.
    pub text: String,
    /// What somebody who wonders about names should know.
    pub note: Option<String>,
}

impl Resolver {
    /// From the machine's own files.
    #[must_use]
    pub fn of_machine(cluster: IpFamily) -> Self {
        let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let behind = fs::read_to_string(Path::new(BEHIND_RESOLVED)).ok();
        Self::choose(&own, behind.as_deref(), cluster)
    }

    /// `own` is the machine's file, `behind` what systemd-resolved forwards to.
    #[must_use]
    pub fn choose(own: &str, behind: Option<&str>, cluster: IpFamily) -> Self {
        let texts = std::iter::once(own).chain(behind);
        let mut reachable = texts.clone().map(|text| within_reach(text, cluster));
        let found = reachable.find(|text| has_server(text));
        if let Some(text) = found {
            return Self { text, note: None };
        }
        let beyond_loopback = texts.clone().filter_map(|text| {
            let mut servers = text.lines().filter_map(server);
            servers.find(|address| !address.is_loopback())
        });
        let why = match beyond_loopback.into_iter().next() {
            Some(address) => format!(
                "the machine's name servers, such as {address}, can't be reached from nodes of an {cluster} cluster"
            ),
            None => "the machine's name servers are on its loopback, where nodes can't reach them".to_owned(),
        };
        Self {
            text: within_reach(own, cluster),
            note: Some(format!("{why}: images and pods will not resolve outside names")),
        }
    }
}

/// The text without the servers that nodes can't reach.
fn within_reach(text: &str, cluster: IpFamily) -> String {
    let reachable = |address: IpAddr| {
        let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        let family = cluster.families().contains(&Family::of(address));
        family && !address.is_loopback() && !link_local
    };
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| server(line).is_none_or(reachable))
        .collect();
    lines.join("\n") + "\n"
}

fn has_server(text: &str) -> bool {
    text.lines().any(|line| server(line).is_some())
}

fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    let keyword = words.next()?;
    let address = words.next()?;
    // `fe80::1%eth0` names a link that nodes don't have.
    let address = address.split('%').next()?;
    (keyword == "nameserver").then(|| address.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_file_is_taken_as_it_is() {
        let own = "search example.org\nnameserver 192.0.2.53\noptions ndots:2\n";
        let resolver = Resolver::choose(own, Some("nameserver 192.0.2.1\n"), IpFamily::Ipv4);
        assert_eq!(resolver.text, own);
        assert_eq!(resolver.note, None);
    }

    #[test]
    fn what_a_local_stub_forwards_to_is_asked_directly() {
        let own = "nameserver 127.0.0.53\noptions edns0\n";
        let behind = "nameserver 192.0.2.1\nsearch example.org\n";
        assert_eq!(Resolver::choose(own, Some(behind), IpFamily::Ipv4).text, behind);
    }

    #[test]
    fn only_loopback_servers_leave_a_note() {
        let resolver = Resolver::choose("nameserver 127.0.0.1\nnameserver ::1\n", None, IpFamily::Ipv4);
        assert!(!has_server(&resolver.text));
        assert!(resolver.note.is_some());
        let resolver = Resolver::choose("", Some("nameserver 127.0.0.1\n"), IpFamily::Ipv4);
        assert!(resolver.note.is_some());
    }

    #[test]
    fn a_loopback_server_beside_another_is_left_out() {
        let resolver = Resolver::choose(
            "nameserver 127.0.0.1\nnameserver 192.0.2.1\n",
            None,
            IpFamily::Ipv4,
        );
        assert_eq!(resolver.text, "nameserver 192.0.2.1\n");
        assert_eq!(resolver.note, None);
    }

    #[test]
    fn only_servers_of_the_clusters_families_are_asked() {
        let own = "nameserver 192.0.2.1\nnameserver 2001:db8::53\nnameserver fe80::1%eth0\nsearch a.b\n";
        let text = |cluster| Resolver::choose(own, None, cluster).text;
        assert_eq!(text(IpFamily::Ipv4), "nameserver 192.0.2.1\nsearch a.b\n");
        assert_eq!(text(IpFamily::Ipv6), "nameserver 2001:db8::53\nsearch a.b\n");
        assert_eq!(
            text(IpFamily::Dual),
            "nameserver 192.0.2.1\nnameserver 2001:db8::53\nsearch a.b\n"
        );
        let resolver = Resolver::choose("nameserver 192.0.2.1\n", None, IpFamily::Ipv6);
        let note = resolver.note.expect("nobody answers");
        assert!(
            note.contains("192.0.2.1") && note.contains("IPv6 cluster"),
            "{note}"
        );
    }
}
