//! The name servers of the nodes.
//!
//! A resolver on the machine's loopback (systemd-resolved's 127.0.0.53, a local dnsmasq or unbound)
//! can't be reached from a node, whose loopback is its own. What systemd-resolved forwards to can, if
//! it has an address of a family that the cluster has. Else a node asks its own DNS, which asks from
//! the machine's namespace.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::network::{Family, IpFamily, Ranges};

/// Where systemd-resolved writes what it forwards to.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// A `resolv.conf` for the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// The file's content.
    pub text: String,
    /// The same for the nodes' DNS, where it is to ask servers on the machine's loopback.
    pub on_loopback: Option<String>,
    /// What somebody who wonders about names should know.
    pub note: Option<String>,
}

impl Resolver {
    /// From the machine's own files.
    #[must_use]
    pub fn of_machine(ranges: &Ranges) -> Self {
        let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let behind = fs::read_to_string(Path::new(BEHIND_RESOLVED)).ok();
        Self::choose(&own, behind.as_deref(), ranges)
    }

    /// `own` is the machine's file, `behind` what systemd-resolved forwards to.
    #[must_use]
    pub fn choose(own: &str, behind: Option<&str>, ranges: &Ranges) -> Self {
        let cluster = ranges.ip_family();
        let texts = std::iter::once(own).chain(behind);
        let mut reachable = texts
            .clone()
            .map(|text| servers_of(text, |one| within_reach(one, cluster)));
        if let Some(text) = reachable.find(|text| has_server(text)) {
            return Self {
                text,
                on_loopback: None,
                note: None,
            };
        }
        let loopback = servers_of(own, |address| address.is_loopback());
        if has_server(&loopback) {
            let dns = ranges.dns_services().into_iter();
            let servers: String = dns.map(|address| format!("nameserver {address}\n")).collect();
            return Self {
                text: servers_of(own, |_| false) + &servers,
                on_loopback: Some(loopback),
                note: None,
            };
        }
        let why = match own.lines().find_map(server) {
            Some(address) => format!(
                "the machine's name servers, such as {address}, can't be reached from nodes of an {cluster} cluster"
            ),
            None => "the machine has no name servers".to_owned(),
        };
        Self {
            text: servers_of(own, |_| false),
            on_loopback: None,
            note: Some(format!("{why}: images and pods will not resolve outside names")),
        }
    }
}

/// The text without the servers that aren't wanted.
fn servers_of(text: &str, is_wanted: impl Fn(IpAddr) -> bool) -> String {
    let lines = text.lines().filter(|line| server(line).is_none_or(&is_wanted));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Whether nodes reach an address.
fn within_reach(address: IpAddr, cluster: IpFamily) -> bool {
    let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let family = cluster.families().contains(&Family::of(address));
    family && !address.is_loopback() && !link_local
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
    use crate::network::Wish;

    fn choose(own: &str, behind: Option<&str>, ip_family: IpFamily) -> Resolver {
        let wish = Wish {
            ip_family,
            ..Wish::default()
        };
        let ranges = Ranges::choose(&wish, &[], 1).expect("nothing is taken");
        Resolver::choose(own, behind, &ranges)
    }

    #[test]
    fn an_ordinary_file_is_taken_as_it_is() {
        let own = "search example.org\nnameserver 192.0.2.53\noptions ndots:2\n";
        let resolver = choose(own, Some("nameserver 192.0.2.1\n"), IpFamily::Ipv4);
        let wanted = Resolver {
            text: own.to_owned(),
            on_loopback: None,
            note: None,
        };
        assert_eq!(resolver, wanted);
    }

    #[test]
    fn what_a_local_stub_forwards_to_is_asked_directly() {
        let own = "nameserver 127.0.0.53\noptions edns0\n";
        let behind = "nameserver 192.0.2.1\nsearch example.org\n";
        let resolver = choose(own, Some(behind), IpFamily::Ipv4);
        assert_eq!((resolver.text.as_str(), resolver.on_loopback), (behind, None));
    }

    #[test]
    fn servers_on_loopback_alone_are_asked_by_the_nodes_dns() {
        let own = "search example.org\nnameserver 127.0.0.1\nnameserver ::1\n";
        let resolver = choose(own, Some("nameserver fe80::1%eth0\n"), IpFamily::Dual);
        let wanted = "search example.org\nnameserver 10.96.0.10\nnameserver fd00:10:96::a\n";
        assert_eq!(resolver.text, wanted);
        assert_eq!(resolver.on_loopback.as_deref(), Some(own));
        assert_eq!(resolver.note, None);
    }

    #[test]
    fn a_machine_without_servers_leaves_a_note() {
        let resolver = choose("", Some("nameserver 127.0.0.1\n"), IpFamily::Ipv4);
        assert!(
            resolver
                .note
                .is_some_and(|note| note.contains("has no name servers"))
        );
        assert!(!has_server(&resolver.text));
    }

    #[test]
    fn a_loopback_server_beside_another_is_left_out() {
        let own = "nameserver 127.0.0.1\nnameserver 192.0.2.1\n";
        let resolver = choose(own, None, IpFamily::Ipv4);
        assert_eq!(resolver.text, "nameserver 192.0.2.1\n");
        assert_eq!((resolver.on_loopback, resolver.note), (None, None));
    }

    #[test]
    fn only_servers_of_the_clusters_families_are_asked() {
        let own = "nameserver 192.0.2.1\nnameserver 2001:db8::53\nnameserver fe80::1%eth0\nsearch a.b\n";
        let text = |cluster| choose(own, None, cluster).text;
        assert_eq!(text(IpFamily::Ipv4), "nameserver 192.0.2.1\nsearch a.b\n");
        assert_eq!(text(IpFamily::Ipv6), "nameserver 2001:db8::53\nsearch a.b\n");
        assert_eq!(
            text(IpFamily::Dual),
            "nameserver 192.0.2.1\nnameserver 2001:db8::53\nsearch a.b\n"
        );
        let resolver = choose("nameserver 192.0.2.1\n", None, IpFamily::Ipv6);
        let note = resolver.note.expect("nobody answers");
        assert!(
            note.contains("192.0.2.1") && note.contains("IPv6 cluster"),
            "{note}"
        );
    }
}
