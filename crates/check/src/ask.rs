//! Asking from a pod for URLs, and judging whom their servers saw.

use std::net::{IpAddr, SocketAddr};

use crate::checks::look_at;
use crate::lab::{Answer, Lab, Spot};
use crate::report::Row;

/// Under which address the client must be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Its own: nothing on the way translates.
    Own,
    /// One of these, its node's.
    Node(Vec<IpAddr>),
    /// Any: that isn't asked.
    Any,
}

/// What to ask for.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Whom, for the report.
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) source: Source,
    /// The pod that must answer, where others could.
    pub(crate) pod: Option<String>,
}

impl Target {
    /// A server at each of its addresses that the client has the family of.
    pub(crate) fn all(from: &Spot, to: &Spot, source: &Source) -> Vec<Self> {
        let target = |address| Self {
            name: name(to, address),
            url: to.url(address, "/"),
            source: source.clone(),
            pod: None,
        };
        families(from, &to.addresses).map(target).collect()
    }

    /// A server by the port that it has of its node, at each of the node's addresses that the client
    /// has the family of.
    pub(crate) fn by_host_port(from: &Spot, to: &Spot, port: u16, node: &[IpAddr]) -> Vec<Self> {
        let target = |address| Self {
            name: name(to, address),
            url: format!("http://{}/", SocketAddr::new(address, port)),
            source: Source::Any,
            pod: Some(to.pod.clone()),
        };
        families(from, node).map(target).collect()
    }
}

/// Those of the addresses that are of a family that `from` has too.
pub(crate) fn families<'a>(from: &'a Spot, to: &'a [IpAddr]) -> impl Iterator<Item = IpAddr> + use<'a> {
    let has = |address: &&IpAddr| {
        from.addresses
            .iter()
            .any(|own| own.is_ipv4() == address.is_ipv4())
    };
    to.iter().filter(has).copied()
}

fn name(to: &Spot, address: IpAddr) -> String {
    format!("{}{}", to.node, family(address))
}

/// What is added to a name: the family where it isn't the usual one.
pub(crate) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " (IPv6)" } else { "" }
}

/// A row's path from a pod to an address of another.
pub(crate) fn path(from: &Spot, to: &Spot, address: IpAddr) -> String {
    format!("{} → {}", from.node, name(to, address))
}

/// Asks for all targets from one pod; a row for each.
pub(crate) async fn ask(lab: &Lab, check: &str, from: &Spot, targets: Vec<Target>) -> Vec<Row> {
    if targets.is_empty() {
        return Vec::new();
    }
    let urls: Vec<String> = targets.iter().map(|target| target.url.clone()).collect();
    let answers = lab.get(from, &urls).await;
    let row = |(number, target): (usize, &Target)| {
        let answer = match &answers {
            Ok(answers) => Ok(&answers[number]),
            Err(why) => Err(why.clone()),
        };
        let path = format!("{} → {}", from.node, target.name);
        match answer.and_then(|answer| judge(from, target, answer)) {
            Ok(detail) => Row::passed(check, path, detail),
            Err(cause) => {
                let node = target.name.split(' ').next().unwrap_or_default();
                let nodes = [from.node.as_str(), node];
                // What is outside has no agent.
                let nodes = if node == "outside" {
                    &nodes[..1]
                } else {
                    &nodes[..]
                };
                Row::failed(check, path, cause, next(lab, target, nodes))
            }
        }
    };
    targets.iter().enumerate().map(row).collect()
}

/// What was seen, or what is wrong with it.
fn judge(from: &Spot, target: &Target, answer: &Answer) -> Result<String, String> {
    let seen = answer.seen().map_err(|why| format!("{}: {why}", target.url))?;
    let ms = answer.ms;
    let server = answer.body["hostname"].as_str().unwrap_or("nobody");
    if let Some(pod) = target.pod.as_ref().filter(|pod| *pod != server) {
        return Err(format!("{} was answered by {server}, not by {pod}", target.url));
    }
    match &target.source {
        Source::Own if from.addresses.contains(&seen) => {
            Ok(format!("seen as itself, {seen}: no NAT; {ms:.1} ms"))
        }
        Source::Own => Err(format!(
            "translated on the way: {:?} was seen as {seen}",
            from.addresses
        )),
        Source::Node(own) if own.contains(&seen) => {
            Ok(format!("masqueraded: seen as its node, {seen}; {ms:.1} ms"))
        }
        Source::Node(own) if from.addresses.contains(&seen) => Err(format!(
            "not masqueraded: seen as the pod, {seen}, not as its node, {own:?}"
        )),
        Source::Node(own) => Err(format!("seen as {seen}, not as its node, {own:?}")),
        Source::Any => Ok(format!("seen as {seen}; {ms:.1} ms")),
    }
}

fn next(lab: &Lab, target: &Target, nodes: &[&str]) -> String {
    let look = look_at(lab.cluster.as_deref(), nodes);
    // A port is the node's that it is of; everything else begins where it is asked from.
    let at = match target.pod {
        Some(_) => nodes[nodes.len() - 1],
        None => nodes[0],
    };
    let prefix = lab.cluster.as_ref().map(|name| format!("ripstop-{name}-{at}"));
    let inside = prefix.map_or_else(
        || format!("on {at}"),
        |namespace| format!("in `nsenter --net=/run/netns/{namespace}`"),
    );
    match target.source {
        _ if target.pod.is_some() => format!(
            "the maps `host_ports4` and `host_ports6` of `nft list table inet ripstop` {inside} show where \
             its ports lead; {look}"
        ),
        Source::Node(_) => format!(
            "`nft list table inet ripstop` {inside} shows what is masqueraded; a firewall on this machine \
             (`nft list ruleset`) may drop what comes from the nodes; {look}"
        ),
        Source::Own | Source::Any => {
            let six = if target.url.contains('[') { "-6 " } else { "" };
            format!("`ip {six}route` {inside} shows the ways to pods; {look}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::POD_PORTS;
    use serde_json::json;

    fn spot(node: &str, addresses: &[&str]) -> Spot {
        Spot {
            pod: format!("pod-{node}"),
            node: node.to_owned(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ports: POD_PORTS,
            host_port: None,
        }
    }

    fn verdict(source: Source, answer: serde_json::Value) -> Result<String, String> {
        let (from, to) = (spot("a", &["10.244.0.2"]), spot("b", &["10.244.1.2"]));
        let mut targets = Target::all(&from, &to, &source);
        let answer: Answer = serde_json::from_value(answer).unwrap();
        judge(&from, &targets.remove(0), &answer)
    }

    fn seen_as(address: &str) -> serde_json::Value {
        json!({"status": 200, "ms": 0.42, "body": {"client_ip": address}})
    }

    #[test]
    fn only_its_own_address_proves_that_nothing_translates() {
        assert!(verdict(Source::Own, seen_as("10.244.0.2")).is_ok());
        let cause = verdict(Source::Own, seen_as("172.30.0.11")).unwrap_err();
        assert!(cause.contains("seen as 172.30.0.11"), "{cause}");
        assert!(verdict(Source::Any, seen_as("172.30.0.11")).is_ok());
    }

    #[test]
    fn only_its_nodes_address_proves_masquerade() {
        let node = || Source::Node(vec!["172.30.0.11".parse().unwrap()]);
        assert!(verdict(node(), seen_as("172.30.0.11")).is_ok());
        let cause = verdict(node(), seen_as("10.244.0.2")).unwrap_err();
        assert!(cause.starts_with("not masqueraded"), "{cause}");
        assert!(verdict(node(), seen_as("192.0.2.1")).is_err());
    }

    #[test]
    fn errors_and_strangers_are_causes() {
        let cause = verdict(
            Source::Any,
            json!({"ms": 3000.0, "error": "timed out", "code": 5}),
        );
        assert_eq!(cause.unwrap_err(), "http://10.244.1.2:8080/: timed out");
        assert!(verdict(Source::Any, json!({"status": 503, "ms": 1.0})).is_err());
        assert!(verdict(Source::Any, json!({"status": 200, "ms": 1.0, "body": "hi"})).is_err());
    }

    #[test]
    fn each_family_that_both_have_is_asked_over() {
        let dual = spot("a", &["10.244.0.2", "fd00::2"]);
        let other = spot("b", &["10.244.1.2", "fd00:1::2"]);
        let names = |from: &Spot| -> Vec<String> {
            let targets = Target::all(from, &other, &Source::Any);
            targets.into_iter().map(|target| target.name).collect()
        };
        assert_eq!(names(&dual), ["b", "b (IPv6)"]);
        assert_eq!(names(&spot("c", &["fd00::3"])), ["b (IPv6)"]);
        assert_eq!(
            Target::all(&dual, &other, &Source::Any)[1].url,
            "http://[fd00:1::2]:8080/"
        );
    }
}
