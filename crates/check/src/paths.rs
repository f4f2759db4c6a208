//! What the paths between nodes, and from nodes to the API server, carry; and who is to blame.
//!
//! One row a path. A path is whole if its first link's MTU arrives, or if somebody says what fits;
//! if larger packets are lost without a word, the row names both ends, what their links claim, what
//! passes, and what to set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

use crate::ask::family;
use crate::checks::look_at;
use crate::report::{Outcome, Row};

pub(crate) const NODES: &str = "path MTU between nodes";

/// What the API server is called, where it isn't a node.
pub const API_SERVER: &str = "API server";

/// What `toolbox mtu --json` prints about a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Measured {
    #[serde(default)]
    pub(crate) link: String,
    #[serde(default)]
    pub(crate) link_mtu: u32,
    pub(crate) carries: Option<u32>,
    #[serde(default)]
    pub(crate) larger: String,
    pub(crate) error: Option<String>,
}

impl From<path_mtu::Found> for Measured {
    fn from(found: path_mtu::Found) -> Self {
        Self {
            link: found.link,
            link_mtu: found.link_mtu,
            carries: found.carries,
            larger: found.larger.name().to_owned(),
            error: None,
        }
    }
}

/// A path that was measured.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) address: IpAddr,
    /// Whether the answer is as large as what was sent, so that this is about the way back, too.
    pub(crate) both_ways: bool,
    pub(crate) measured: Result<Measured, String>,
}

impl Path {
    /// How a row calls it.
    pub(crate) fn name(&self) -> String {
        let arrow = if self.both_ways { '⇄' } else { '→' };
        format!("{} {arrow} {}{}", self.from, self.to, family(self.address))
    }

    /// What was measured and how much arrives, or why that isn't known.
    pub(crate) fn carried(&self) -> Result<(&Measured, u32), String> {
        let measured = self.measured.as_ref().map_err(Clone::clone)?;
        if let Some(error) = &measured.error {
            return Err(error.clone());
        }
        let nothing = || "nothing arrives, however small".to_owned();
        Ok((measured, measured.carries.ok_or_else(nothing)?))
    }

    /// Whether small packets pass and large ones vanish.
    pub(crate) fn loses(&self) -> bool {
        self.carried()
            .is_ok_and(|(measured, _)| measured.larger == "lost")
    }

    /// Those of its ends that are nodes.
    fn nodes(&self) -> Vec<&str> {
        let ends = [self.from.as_str(), self.to.as_str()];
        ends.into_iter().filter(|end| *end != API_SERVER).collect()
    }

    pub(crate) fn has_end(&self, end: &str) -> bool {
        self.from == end || self.to == end
    }
}

/// A row for each path.
pub(crate) fn rows(paths: &[Path], cluster: Option<&str>) -> Vec<Row> {
    let judge = Judge {
        links: links(paths),
        culprit: culprit(paths),
        cluster,
    };
    paths.iter().map(|path| judge.row(path)).collect()
}

/// The ends of paths on which large packets are lost, as rows tell them: whatever else doesn't work
/// there may be of that.
pub(crate) fn ends_of_losses(rows: &[Row]) -> BTreeSet<String> {
    let failed = rows.iter().filter(|row| {
        let lost = matches!(&row.outcome, Outcome::Failed { cause, .. } if cause.contains(LOST));
        row.check == NODES && lost
    });
    let ends = failed.flat_map(|row| row.path.split(['→', '⇄']));
    ends.map(|end| end.trim().trim_end_matches(" (IPv6)").to_owned())
        .collect()
}

const LOST: &str = "are lost without a word";

/// The link of each end that leads to others, and its MTU.
fn links(paths: &[Path]) -> BTreeMap<&str, (&str, u32)> {
    let measured = paths.iter().filter_map(|path| {
        let measured = path.measured.as_ref().ok()?;
        Some((path.from.as_str(), (measured.link.as_str(), measured.link_mtu)))
    });
    measured.filter(|(_, (_, mtu))| *mtu > 0).collect()
}

/// The one end that all paths with losses have in common, if there are whole ones without it.
fn culprit(paths: &[Path]) -> Option<&str> {
    let losing: Vec<&Path> = paths.iter().filter(|path| path.loses()).collect();
    let ends = losing
        .iter()
        .flat_map(|path| [path.from.as_str(), path.to.as_str()]);
    let ends: BTreeSet<&str> = ends.collect();
    let in_all = |end: &&str| losing.iter().all(|path| path.has_end(end));
    let mut suspects = ends.into_iter().filter(in_all);
    let (first, second) = (suspects.next()?, suspects.next());
    let others_are_whole = paths
        .iter()
        .any(|path| !path.has_end(first) && path.carried().is_ok());
    (second.is_none() && others_are_whole).then_some(first)
}

struct Judge<'a> {
    links: BTreeMap<&'a str, (&'a str, u32)>,
    culprit: Option<&'a str>,
    cluster: Option<&'a str>,
}

impl Judge<'_> {
    fn row(&self, path: &Path) -> Row {
        match path.carried() {
            Err(cause) if path.both_ways && path.measured.as_ref().is_ok_and(|m| m.error.is_none()) => {
                let name = path.name();
                Row::skipped(NODES, format!("{name}: {cause}: pings aren't answered there"))
            }
            Err(cause) => Row::failed(NODES, path.name(), cause, look_at(self.cluster, &path.nodes())),
            Ok((measured, carries)) if path.loses() => self.loss(path, measured, carries),
            Ok((measured, carries)) => Row::passed(NODES, path.name(), said(carries, measured.link_mtu)),
        }
    }

    fn loss(&self, path: &Path, measured: &Measured, carries: u32) -> Row {
        let (from, to) = (path.from.as_str(), path.to.as_str());
        let (link, mtu) = (&measured.link, measured.link_mtu);
        let far = self.links.get(to).map(|(link, mtu)| (*link, *mtu));
        let there = match far {
            Some((far, far_mtu)) => format!(", and {far} on {to} takes {far_mtu}"),
            None => String::new(),
        };
        let way = if path.both_ways {
            " there or on the way back"
        } else {
            ""
        };
        let cause = format!(
            "packets of more than {carries} bytes {LOST}{way}: {link} on {from} sends up to {mtu}{there}"
        );
        let next = match far {
            Some((far, far_mtu)) if far_mtu < mtu => format!(
                "set the MTU of both links to {far_mtu} (`ip link set {link} mtu {far_mtu}` on {from}), or raise \
                 that of {far} on {to}"
            ),
            _ => self.between(path, measured, carries),
        };
        Row::failed(NODES, path.name(), cause, next)
    }

    /// Both ends take as much: it's what lies between.
    fn between(&self, path: &Path, measured: &Measured, carries: u32) -> String {
        let (link, mtu) = (&measured.link, measured.link_mtu);
        let look = match self.culprit.filter(|end| path.has_end(end)) {
            Some(end) => format!("all such paths are {end}'s, so look to what {end} is plugged into"),
            None => "something between takes less".to_owned(),
        };
        let ports = match self.cluster {
            Some(name) => {
                format!(" (`ip -n ripstop-{name}-switch link` shows the ports of the nodes' switch)")
            }
            None => String::new(),
        };
        format!(
            "{look}: raise the MTU of the port, bridge or tunnel there to {mtu}{ports}; or let the router or \
             firewall there say \"too big\" (ICMP); or set the MTU of {link} on {} to {carries}",
            path.nodes().join(" and ")
        )
    }
}

fn said(carries: u32, link: u32) -> String {
    if carries == link {
        format!("{carries} bytes, the whole link; larger ones are refused")
    } else {
        format!(
            "{carries} bytes of the link's {link}, a router on the way takes no more; larger ones are refused"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(from: &str, to: &str, mtu: u32, carries: impl Into<Option<u32>>, larger: &str) -> Path {
        let measured = Measured {
            link: "eth0".to_owned(),
            link_mtu: mtu,
            carries: carries.into(),
            larger: larger.to_owned(),
            error: None,
        };
        Path {
            from: from.to_owned(),
            to: to.to_owned(),
            address: [172, 30, 0, 12].into(),
            both_ways: false,
            measured: Ok(measured),
        }
    }

    fn texts(paths: &[Path]) -> Vec<String> {
        let rows = rows(paths, Some("local"));
        rows.iter().map(|row| format!("{row:?}")).collect()
    }

    #[test]
    fn whole_links_and_routers_that_say_so_are_fine() {
        let rows = texts(&[
            path("a", "b", 1500, 1500, "refused"),
            path("b", "a", 1500, 1400, "refused"),
        ]);
        assert!(rows.iter().all(|row| row.contains("Passed")), "{rows:#?}");
        assert!(
            rows[1].contains("1400 bytes of the link's 1500, a router on the way"),
            "{rows:#?}"
        );
    }

    #[test]
    fn a_smaller_link_at_the_other_end_is_named_with_its_cure() {
        let rows = texts(&[
            path("a", "b", 1500, 1400, "lost"),
            path("b", "a", 1400, 1400, "refused"),
        ]);
        let cause = "more than 1400 bytes are lost without a word: eth0 on a sends up to 1500, and eth0 on b takes 1400";
        assert!(rows[0].contains(cause), "{}", rows[0]);
        assert!(
            rows[0].contains("set the MTU of both links to 1400 (`ip link set eth0 mtu 1400` on a)"),
            "{}",
            rows[0]
        );
        assert!(rows[1].contains("Passed"), "{}", rows[1]);
    }

    #[test]
    fn what_lies_between_is_blamed_where_both_ends_take_as_much() {
        let rows = texts(&[
            path("a", "b", 1500, 1300, "lost"),
            path("b", "a", 1500, 1500, "refused"),
        ]);
        for said in [
            "something between takes less: raise the MTU of the port, bridge or tunnel there to 1500",
            "`ip -n ripstop-local-switch link`",
            "or set the MTU of eth0 on a and b to 1300",
        ] {
            assert!(rows[0].contains(said), "{said}: {}", rows[0]);
        }
        assert!(
            rows[1].contains("Passed"),
            "the other direction is whole: {}",
            rows[1]
        );
    }

    #[test]
    fn the_end_that_all_losses_have_in_common_is_named() {
        let bad = |from, to| path(from, to, 1500, 1300, "lost");
        let good = |from, to| path(from, to, 1500, 1500, "refused");
        let one = [
            bad("a", "b"),
            bad("b", "a"),
            bad("b", API_SERVER),
            good("a", API_SERVER),
        ];
        let rows = texts(&one);
        let blamed = |row: &&String| row.contains("so look to what b is plugged into");
        assert_eq!(rows.iter().filter(blamed).count(), 3, "{rows:#?}");
        assert!(
            rows[2].contains("set the MTU of eth0 on b to 1300"),
            "not the API server's: {}",
            rows[2]
        );
        // Two nodes alone don't tell which it is.
        assert_eq!(culprit(&one[..2]), None);
        // Nor does what isn't at one end.
        assert_eq!(culprit(&[bad("a", "b"), bad("c", "d"), good("a", "c")]), None);
    }

    #[test]
    fn silence_is_a_failure_where_somebody_listens_and_none_to_pings() {
        let silent = path("a", "b", 1500, None, "lost");
        let pinged = Path {
            both_ways: true,
            ..silent.clone()
        };
        let rows = texts(&[silent, pinged]);
        assert!(
            rows[0].contains("Failed") && rows[0].contains("nothing arrives"),
            "{}",
            rows[0]
        );
        assert!(
            rows[1].contains("Skipped") && rows[1].contains("a ⇄ b: nothing arrives"),
            "{}",
            rows[1]
        );
    }

    #[test]
    fn whoever_loses_packets_is_known_for_what_else_does_not_work() {
        let six = Path {
            address: "fd00::2".parse().expect("an address"),
            ..path("b", "c", 1500, 1300, "lost")
        };
        let rows = rows(&[path("a", "b", 1500, None, "lost"), six], None);
        assert_eq!(ends_of_losses(&rows), ["b", "c"].map(str::to_owned).into());
    }
}
