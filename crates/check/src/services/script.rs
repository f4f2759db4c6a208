//! What a pod asks Services by other means than HTTP: datagrams, echo requests, names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ask::pods;
use super::make::{ALL, EXTERNAL, HEADLESS, Services};
use crate::ask::{families, family};
use crate::lab::{Lab, Spot};
use crate::pods::POD_PORTS;

pub(super) const UDP: &str = "Service, UDP";
pub(super) const PING: &str = "Service, ping";
pub(super) const NAMES: &str = "Service, names";

/// Says what isn't as it should be, a line each, with what it is about in front.
const FUNCTIONS: &str = r#"
udp() { toolbox udp --timeout 1s --tries 3 "$1" "$2" hello >/dev/null 2>&1 || echo "udp $1|no echo of three datagrams"; }
echoed() { ping -c 1 -W 2 "$1" >/dev/null 2>&1 || echo "ping $1|no answer within 2 seconds"; }
found() { nslookup "$1" 2>&1 | grep -qF "$2" || echo "names|$1: no \"$2\""; }
"#;

/// A row's check and path, and what the script calls it.
pub(super) struct Subject {
    pub(super) check: &'static str,
    pub(super) path: String,
    key: String,
}

/// What is run in a pod, and what it is about.
pub(super) fn script(lab: &Lab, services: &Services, from: &Spot) -> (String, Vec<Subject>) {
    let (mut lines, mut subjects) = (vec![FUNCTIONS.to_owned()], Vec::new());
    let echo = POD_PORTS.echo;
    let below = format!("{}.svc.cluster.local", services.namespace);
    for address in families(from, &services.all.addresses) {
        for (check, function, line) in [
            (UDP, "udp", format!("udp {address} {echo} &")),
            (PING, "ping", format!("echoed {address} &")),
        ] {
            lines.push(line);
            subjects.push(Subject {
                check,
                path: format!("{} → all pods{}", from.node, family(address)),
                key: format!("{function} {address}"),
            });
        }
        for name in [ALL, EXTERNAL] {
            lines.push(format!("found {name}.{below} 'Address: {address}' &"));
        }
        lines.push(format!("found {address} 'name = {ALL}.{below}' &"));
    }
    for address in addresses_of_pods(lab, from) {
        lines.push(format!("found {HEADLESS}.{below} 'Address: {address}' &"));
    }
    lines.push(format!(
        "found {EXTERNAL}.{below} 'canonical name = {ALL}.{below}' &"
    ));
    lines.push("wait".to_owned());
    subjects.push(Subject {
        check: NAMES,
        path: from.node.clone(),
        key: "names".to_owned(),
    });
    (lines.join("\n"), subjects)
}

fn addresses_of_pods(lab: &Lab, from: &Spot) -> Vec<IpAddr> {
    let names = pods(lab);
    let spots = lab.places.iter().flat_map(|place| [&place.pod, &place.neighbour]);
    let spots = spots.flatten().filter(|spot| names.contains(&spot.pod));
    spots.flat_map(|spot| families(from, &spot.addresses)).collect()
}

impl Subject {
    /// What the script said about it.
    pub(super) fn judge(&self, said: &str) -> Result<String, String> {
        let lines = said.lines().filter_map(|line| line.split_once('|'));
        let mut problems: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, problem) in lines {
            problems.entry(key).or_default().push(problem);
        }
        match problems.get(self.key.as_str()) {
            None if self.check == NAMES => {
                Ok("a Service's, back from its address, its pods', another's".to_owned())
            }
            None => Ok(String::new()),
            Some(problems) => Err(problems.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::make::Made;
    use super::*;
    use crate::checks::tests::{lab, works};

    #[test]
    fn a_script_asks_for_each_address_and_each_name() {
        let lab = lab(2, works());
        let from = lab.places[0].pod.clone().unwrap();
        let services = Services {
            namespace: "n".to_owned(),
            all: Made {
                addresses: vec!["10.96.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
                ..Made::default()
            },
            ..Services::default()
        };
        let (script, subjects) = script(&lab, &services, &from);
        for line in [
            "udp 10.96.0.1 9000 &",
            "echoed 10.96.0.1 &",
            "found 10.96.0.1 'name = all.n.svc.cluster.local' &",
            "found headless.n.svc.cluster.local 'Address: 10.244.0.9' &",
            "found external.n.svc.cluster.local 'canonical name = all.n.svc.cluster.local' &",
        ] {
            assert!(script.contains(line), "no {line} in {script}");
        }
        // The pod has no IPv6.
        assert!(!script.contains("fd00::1"));
        let said = "ping 10.96.0.1|no answer\nnames|x\nnames|y\n";
        let verdicts: Vec<_> = subjects.iter().map(|subject| subject.judge(said)).collect();
        assert!(verdicts[0].is_ok());
        assert_eq!(verdicts[1], Err("no answer".to_owned()));
        assert_eq!(verdicts[2], Err("x; y".to_owned()));
    }
}
