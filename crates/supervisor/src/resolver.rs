//! The name servers of the nodes.
//!
//! A resolver on the machine's loopback (systemd-resolved's 127.0.0.53, a local dnsmasq) can't be
//! reached from a node, whose loopback is its own. What it forwards to can.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

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
    pub fn of_machine() -> Self {
        let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let behind = fs::read_to_string(Path::new(BEHIND_RESOLVED)).ok();
        Self::choose(&own, behind.as_deref())
    }

    /// `own` is the machine's file, `behind` what systemd-resolved forwards to.
    #[must_use]
    pub fn choose(own: &str, behind: Option<&str>) -> Self {
        let filtered = without_loopback(own);
        if has_server(&filtered) {
            return Self {
                text: filtered,
                note: None,
            };
        }
        let behind = behind.map(without_loopback).filter(|text| has_server(text));
        match behind {
            Some(text) => Self { text, note: None },
            None => Self {
                text: filtered,
                note: Some(
                    "the machine's name servers are on its loopback, where nodes can't reach them: \
                     images and pods will not resolve outside names"
                        .to_owned(),
                ),
            },
        }
    }
}

fn without_loopback(text: &str) -> String {
    let reachable = |line: &&str| server(line).is_none_or(|address| !address.is_loopback());
    let lines: Vec<&str> = text.lines().filter(reachable).collect();
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
        let resolver = Resolver::choose(own, Some("nameserver 192.0.2.1\n"));
        assert_eq!(resolver.text, own);
        assert_eq!(resolver.note, None);
    }

    #[test]
    fn what_a_local_stub_forwards_to_is_asked_directly() {
        let own = "nameserver 127.0.0.53\noptions edns0\n";
        let behind = "nameserver 192.0.2.1\nsearch example.org\n";
        assert_eq!(Resolver::choose(own, Some(behind)).text, behind);
    }

    #[test]
    fn only_loopback_servers_leave_a_note() {
        let resolver = Resolver::choose("nameserver 127.0.0.1\nnameserver ::1\n", None);
        assert!(!has_server(&resolver.text));
        assert!(resolver.note.is_some());
        let resolver = Resolver::choose("", Some("nameserver 127.0.0.1\n"));
        assert!(resolver.note.is_some());
    }

    #[test]
    fn a_loopback_server_beside_another_is_left_out() {
        let resolver = Resolver::choose("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", None);
        assert_eq!(resolver.text, "nameserver 192.0.2.1\n");
        assert_eq!(resolver.note, None);
    }
}
