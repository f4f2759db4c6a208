//! Who has which addresses, and from whom: pods and nodes have those that the API tells and no
//! others, and no router that somebody plays on a link can give them more.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::future::join_all;
use ipnet::IpNet;

use crate::checks::look_at;
use crate::lab::{Lab, Place, Spot};
use crate::report::Row;

const ADDRESSES: &str = "addresses";
const ROUTERS: &str = "router advertisements";

/// Prints every address, and of each link whether it believes routers.
const LOOK: &str = "ip -o addr show || exit 1; cd /proc/sys/net/ipv6/conf 2>/dev/null || exit 0; \
                    for l in *; do echo \"link $l $(cat $l/disable_ipv6) $(cat $l/forwarding) $(cat $l/accept_ra)\"; done";

/// What a namespace has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Links and their addresses that hold beyond the link.
    addresses: Vec<(String, IpAddr)>,
    /// Links that take addresses and routes from routers.
    believers: Vec<String>,
}

/// Of each node and of a pod on it.
pub(crate) async fn addresses(lab: &Lab) -> Vec<Row> {
    let one = async |place: &Place| {
        let of_pod = async {
            match &place.pod {
                Some(spot) => pod(lab, place, spot).await,
                None => Vec::new(),
            }
        };
        let of_node = async {
            match &place.host {
                // Somebody else's nodes have what their networks give them.
                Some(spot) if lab.cluster.is_some() => node(lab, place, spot).await,
                _ => Vec::new(),
            }
        };
        let (pod, node) = tokio::join!(of_pod, of_node);
        [pod, node].concat()
    };
    let rows = join_all(lab.places.iter().map(one)).await.concat();
    let (addresses, routers): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.check == ADDRESSES);
    [addresses, routers].concat()
}

async fn pod(lab: &Lab, place: &Place, spot: &Spot) -> Vec<Row> {
    let what = format!("pod on {}", place.node);
    let found = match look(lab, spot).await {
        Ok(found) => found,
        Err(why) => return vec![unseen(lab, place, &what, why)],
    };
    let has: Vec<IpAddr> = found.addresses.iter().map(|(_, address)| *address).collect();
    let mut rows = compare(lab, place, &what, &spot.addresses, &has);
    for family in families(&place.pod_cidrs) {
        if !spot.addresses.iter().any(|address| address.is_ipv4() == family) {
            let cause = format!(
                "the node has {} addresses for pods, and the pod has none",
                name(family)
            );
            let next = look_at(lab.cluster.as_deref(), &[&place.node]);
            rows.push(Row::failed(ADDRESSES, path(&what, family), cause, next));
        }
    }
    rows.push(routers(lab, place, &what, &found));
    rows
}

async fn node(lab: &Lab, place: &Place, spot: &Spot) -> Vec<Row> {
    let found = match look(lab, spot).await {
        Ok(found) => found,
        Err(why) => return vec![unseen(lab, place, &place.node, why)],
    };
    let has = on_uplink(&found, &place.addresses, &lab.balancers);
    let mut rows = compare(lab, place, &place.node, &place.addresses, &has);
    rows.push(routers(lab, place, &place.node, &found));
    rows
}

/// The addresses of the link that has the node's, but for load balancers': other links may have some for
/// other purposes.
fn on_uplink(found: &Found, own: &[IpAddr], balancers: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let of_node = found.addresses.iter().find(|(_, address)| own.contains(address));
    let uplink = of_node.map(|(link, _)| link.as_str()).unwrap_or_default();
    let on_uplink = found.addresses.iter().filter(|(link, _)| link == uplink);
    on_uplink
        .map(|(_, address)| *address)
        .filter(|address| !balancers.contains(address))
        .collect()
}

fn unseen(lab: &Lab, place: &Place, what: &str, why: String) -> Row {
    let next = look_at(lab.cluster.as_deref(), &[&place.node]);
    Row::failed(ADDRESSES, what, why, next)
}

async fn look(lab: &Lab, spot: &Spot) -> Result<Found, String> {
    let command = ["sh", "-c", LOOK].map(str::to_owned).into();
    let output = lab.shell.exec(&spot.pod, command).await?;
    match output.code {
        0 => Ok(parse(&output.stdout)),
        code => Err(format!(
            "looking at its links ended with {code}: {}",
            output.stderr.trim()
        )),
    }
}

fn parse(text: &str) -> Found {
    let mut found = Found::default();
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["link", link, "0", forwarding, accept] => {
                // A link that forwards believes only when it is told twice (2).
                let believes = *accept == "2" || (*accept == "1" && *forwarding == "0");
                // Neither is a link: what they say holds for links that are yet to come.
                if believes && !matches!(*link, "all" | "default" | "lo") {
                    found.believers.push((*link).to_owned());
                }
            }
            [_, link, "inet" | "inet6", address, rest @ ..] if rest.contains(&"global") => {
                let address = address.split('/').next().and_then(|text| text.parse().ok());
                let link = link.split('@').next().unwrap_or_default().to_owned();
                found.addresses.extend(address.map(|address| (link, address)));
            }
            _ => {}
        }
    }
    found
}

/// A row for each family that is planned or found.
fn compare(lab: &Lab, place: &Place, what: &str, planned: &[IpAddr], has: &[IpAddr]) -> Vec<Row> {
    let both: BTreeSet<bool> = planned.iter().chain(has).map(IpAddr::is_ipv4).collect();
    // IPv4 first.
    let rows = both.into_iter().rev().map(|family| {
        let of = |list: &[IpAddr]| {
            let own = list.iter().filter(|address| address.is_ipv4() == family);
            own.copied().collect::<BTreeSet<IpAddr>>()
        };
        let (planned, has) = (of(planned), of(has));
        if planned == has {
            let detail = format!("{} and no other", words(&planned));
            return Row::passed(ADDRESSES, path(what, family), detail);
        }
        let cause = format!("the API says {}, and it has {}", words(&planned), words(&has));
        let next = format!(
            "what else sets addresses there? {}",
            look_at(lab.cluster.as_deref(), &[&place.node])
        );
        Row::failed(ADDRESSES, path(what, family), cause, next)
    });
    rows.collect()
}

fn routers(lab: &Lab, place: &Place, what: &str, found: &Found) -> Row {
    if found.believers.is_empty() {
        return Row::passed(ROUTERS, what, "not believed");
    }
    let links = found.believers.join(", ");
    let next = format!(
        "`sysctl -w net.ipv6.conf.{}.accept_ra=0` there ends it until it is made anew; {}",
        found.believers[0],
        look_at(lab.cluster.as_deref(), &[&place.node])
    );
    let cause = format!("believed on {links}: whoever is on that link can give it addresses and routes");
    Row::failed(ROUTERS, what, cause, next)
}

/// Whether IPv4 and IPv6 are among the blocks, IPv4 as true.
fn families(blocks: &[IpNet]) -> BTreeSet<bool> {
    blocks.iter().map(|block| block.addr().is_ipv4()).collect()
}

fn path(what: &str, is_ipv4: bool) -> String {
    match is_ipv4 {
        true => what.to_owned(),
        false => format!("{what} (IPv6)"),
    }
}

fn name(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "IPv4" } else { "IPv6" }
}

fn words(addresses: &BTreeSet<IpAddr>) -> String {
    match addresses.len() {
        0 => "none".to_owned(),
        _ => addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{lab, works};

    const POD: &str = "\
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
1: lo    inet6 ::1/128 scope host \\       valid_lft forever preferred_lft forever
2: eth0    inet 10.244.0.2/32 scope global eth0\\       valid_lft forever preferred_lft forever
2: eth0@if7    inet6 fd00::2/128 scope global \\       valid_lft forever preferred_lft forever
2: eth0    inet6 fe80::1/64 scope link \\       valid_lft forever preferred_lft forever
link all 0 0 1
link default 0 0 1
link eth0 0 0 0
link lo 0 0 1
";

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_that_hold_beyond_the_link_count() {
        let found = parse(POD);
        let addresses: Vec<_> = found.addresses.iter().map(|(_, address)| *address).collect();
        assert_eq!(addresses, ips(&["10.244.0.2", "fd00::2"]));
        assert!(found.addresses.iter().all(|(link, _)| link == "eth0"));
        assert!(found.believers.is_empty());
    }

    #[test]
    fn a_link_believes_unless_it_forwards_or_has_no_ipv6() {
        let believers = |line: &str| parse(line).believers;
        assert_eq!(believers("link eth0 0 0 1"), ["eth0"]);
        assert_eq!(believers("link eth0 0 1 2"), ["eth0"]);
        for line in ["link eth0 0 0 0", "link eth0 0 1 1", "link eth0 1 0 1"] {
            assert!(believers(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn a_load_balancers_address_is_nobodys_mistake() {
        let found = parse(
            "2: eth0    inet 172.30.0.11/24 scope global eth0\n\
             2: eth0    inet 172.30.0.200/32 scope global dynamic eth0\n\
             3: eth1    inet 192.0.2.7/24 scope global eth1\n",
        );
        let own = ips(&["172.30.0.11"]);
        let with = ips(&["172.30.0.11", "172.30.0.200"]);
        assert_eq!(on_uplink(&found, &own, &BTreeSet::new()), with);
        assert_eq!(
            on_uplink(&found, &own, &ips(&["172.30.0.200"]).into_iter().collect()),
            own
        );
    }

    #[test]
    fn an_address_that_nobody_planned_fails_its_family_alone() {
        let lab = lab(1, works());
        let rows = compare(
            &lab,
            &lab.places[0],
            "pod",
            &ips(&["10.244.0.2"]),
            &ips(&["10.244.0.2", "2001:db8::7"]),
        );
        assert_eq!(rows.len(), 2);
        assert!(!rows[0].is_failure() && rows[0].path == "pod");
        assert!(rows[1].is_failure() && rows[1].path == "pod (IPv6)", "{rows:?}");
        let rows = compare(&lab, &lab.places[0], "pod", &ips(&["fd00::2"]), &[]);
        assert!(rows[0].is_failure());
    }
}
