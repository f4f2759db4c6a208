//! NetworkPolicies as people write them, and as they shouldn't.

use model::Direction;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(spec: &Value) -> (Policy, Vec<String>) {
    let object = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    let (policy, problems) = policy(&serde_json::from_value(object).expect("a NetworkPolicy"));
    (policy, problems.iter().map(ToString::to_string).collect())
}

/// The rules of a direction in words; none if the policy isn't about it.
fn words(policy: &Policy, direction: Direction) -> Option<Vec<String>> {
    let rules = policy.rules(direction)?;
    Some(rules.iter().map(ToString::to_string).collect())
}

fn ingress(spec: &Value) -> (Option<Vec<String>>, Vec<String>) {
    let (policy, problems) = read(spec);
    (words(&policy, Direction::Ingress), problems)
}

#[test]
fn types_have_their_defaults() {
    let types = |spec: Value| {
        let (policy, problems) = read(&spec);
        assert_eq!(problems, Vec::<String>::new());
        (policy.ingress.is_some(), policy.egress.is_some())
    };
    assert_eq!(types(json!({"podSelector": {}})), (true, false));
    assert_eq!(types(json!({"podSelector": {}, "egress": []})), (true, false));
    assert_eq!(types(json!({"podSelector": {}, "egress": [{}]})), (true, true));
    assert_eq!(
        types(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]})),
        (false, true)
    );
    assert_eq!(
        types(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
        (true, true)
    );
    assert_eq!(
        types(json!(null)),
        (true, false),
        "what says nothing denies all that comes"
    );
}

#[test]
fn peers_and_ports_of_every_kind_are_read() {
    let (rules, problems) = ingress(&json!({
        "podSelector": {"matchLabels": {"role": "db"}},
        "ingress": [
            {"from": [
                {"podSelector": {"matchLabels": {"role": "frontend"}}},
                {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}},
                {"namespaceSelector": {}, "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}},
                {"podSelector": {}},
                {"ipBlock": {"cidr": "172.17.3.4/16", "except": ["172.17.1.0/24", "172.17.2.0/24"]}},
             ],
             "ports": [
                {"port": 6379}, {"protocol": "UDP"}, {"protocol": "SCTP", "port": "assoc"},
                {"protocol": "TCP", "port": 32000, "endPort": 32768},
             ]},
            {"from": [], "ports": []},
            {},
        ],
    }));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(
        rules.expect("there are some"),
        [
            "pods with role=frontend of this namespace; every pod of namespaces with team in (a,b); \
             pods with app of every namespace; every pod of this namespace; \
             172.17.0.0/16 except 172.17.1.0/24, 172.17.2.0/24: \
             6379/tcp, every port of udp, assoc/sctp, 32000-32768/tcp",
            "everybody: everything",
            "everybody: everything",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_named_and_opens_nothing() {
    let cases = [
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0"]}}]}),
            "spec.ingress[0].from[0].ipBlock.except: \"10.1.0.0\" isn't a range",
            "nobody: everything",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "everybody"}}, {"podSelector": {}}]}),
            "spec.ingress[0].from[0].ipBlock.cidr: \"everybody\"",
            "every pod of this namespace: everything",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}),
            "and this is both",
            "nobody: everything",
        ),
        (json!({"from": [{}]}), "and this is neither", "nobody: everything"),
        (
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}}]}),
            "podSelector.matchExpressions[0]: operator \"Like\" isn't In",
            "nobody: everything",
        ),
        (
            json!({"from": [{"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]}),
            "operator In takes one value or more",
            "nobody: everything",
        ),
        (
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}]}),
            "operator Exists takes no values",
            "nobody: everything",
        ),
        (
            json!({"ports": [{"protocol": "ICMP"}]}),
            "protocol \"ICMP\" isn't",
            "everybody: nothing",
        ),
        (
            json!({"ports": [{"port": 70000}, {"port": 80}]}),
            "70000 isn't a port",
            "everybody: 80/tcp",
        ),
        (
            json!({"ports": [{"port": 0}]}),
            "0 isn't a port",
            "everybody: nothing",
        ),
        (
            json!({"ports": [{"port": 90, "endPort": 80}]}),
            "endPort 80 needs a port",
            "everybody: nothing",
        ),
        (
            json!({"ports": [{"port": "http", "endPort": 80}]}),
            "endPort 80 needs",
            "everybody: nothing",
        ),
        (
            json!({"ports": [{"endPort": 80}]}),
            "endPort 80 needs",
            "everybody: nothing",
        ),
    ];
    for (rule, problem, planned) in cases {
        let (rules, problems) = ingress(&json!({"podSelector": {}, "ingress": [rule]}));
        assert!(
            problems.iter().any(|one| one.contains(problem)),
            "{rule}: {problems:?}"
        );
        assert_eq!(rules.expect("it's about ingress"), [planned], "{rule}");
    }
}

#[test]
fn a_policy_of_whom_it_is_unclear_denies_all_that_it_may_be_for() {
    let (policy, problems) = read(&json!({
        "podSelector": {"matchLabels": {"app": "db"}, "matchExpressions": [{"key": "a", "operator": "Like"}]},
        "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}],
    }));
    assert!(
        problems.iter().any(|one| one.contains("denies all")),
        "{problems:?}"
    );
    assert_eq!(policy.pods.to_string(), "app=db");
    assert_eq!(
        (policy.ingress, policy.egress),
        (Some(Vec::new()), Some(Vec::new()))
    );
}

#[test]
fn a_direction_that_may_be_meant_is_denied() {
    let (policy, problems) = read(
        &json!({"podSelector": {}, "policyTypes": ["egress", "Ingress"], "ingress": [{}], "egress": [{}]}),
    );
    assert!(problems[0].contains("policy type \"egress\""), "{problems:?}");
    assert_eq!(words(&policy, Direction::Ingress).expect("rules").len(), 1);
    assert_eq!(policy.egress, Some(Vec::new()));
}

/// A part of a policy, and whether it can be read.
type Piece = (Value, bool);

fn pieces(all: &[Piece]) -> impl Strategy<Value = Piece> + use<> {
    prop::sample::select(all.to_vec())
}

fn selectors() -> impl Strategy<Value = Piece> {
    let one = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    pieces(&[
        (json!({}), true),
        (json!({"matchLabels": {"app": "web"}}), true),
        (one("app", "In", json!(["a", "b"])), true),
        (one("app", "NotIn", json!(["a"])), true),
        (one("app", "Exists", json!(null)), true),
        (one("app", "In", json!([])), false),
        (one("app", "Exists", json!(["a"])), false),
        (one("app", "Near", json!(["a"])), false),
        (one("", "Exists", json!([])), false),
    ])
}

fn ranges() -> impl Strategy<Value = (String, bool)> {
    let good = ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.7/24", "2001:db8::/32", "::/0"];
    let bad = [
        "",
        "10.0.0.0",
        "10.0.0.0/33",
        "10.0.0/8",
        "all",
        "2001:db8::/129",
        "0.0.0.0/-1",
    ];
    let good = prop::sample::select(good.to_vec()).prop_map(|text| (text.to_owned(), true));
    let bad = prop::sample::select(bad.to_vec()).prop_map(|text| (text.to_owned(), false));
    prop_oneof![3 => good, 1 => bad, 1 => "[0-9a-f:./]{0,12}".prop_map(|text| {
        let is_range = text.parse::<IpNet>().is_ok();
        (text, is_range)
    })]
}

fn peers() -> impl Strategy<Value = Piece> {
    let block = (ranges(), prop::collection::vec(ranges(), 0..3)).prop_map(|((cidr, readable), except)| {
        let texts: Vec<&String> = except.iter().map(|(text, _)| text).collect();
        let readable = readable && except.iter().all(|(_, readable)| *readable);
        (json!({"ipBlock": {"cidr": cidr, "except": texts}}), readable)
    });
    let pods = (prop::option::of(selectors()), selectors()).prop_map(|(namespaces, (pods, readable))| {
        let (namespaces, both) = namespaces.unwrap_or((Value::Null, true));
        (
            json!({"namespaceSelector": namespaces, "podSelector": pods}),
            readable && both,
        )
    });
    let odd = pieces(&[
        (json!({}), false),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}),
            false,
        ),
    ]);
    prop_oneof![block, pods, odd]
}

fn ports() -> impl Strategy<Value = Piece> {
    let odd = pieces(&[
        (json!({}), true),
        (json!({"port": "http"}), true),
        (json!({"port": 80, "protocol": "ICMP"}), false),
        (json!({"port": "http", "endPort": 90}), false),
        (json!({"endPort": 90}), false),
    ]);
    let numbers = (-70_000..70_000_i32, prop::option::of(-70_000..70_000_i32));
    let numbers = numbers.prop_map(|(first, last)| {
        let is_port = |number: i32| (1..=65_535).contains(&number);
        let readable = is_port(first) && last.is_none_or(|last| is_port(last) && last >= first);
        (
            json!({"port": first, "endPort": last, "protocol": "UDP"}),
            readable,
        )
    });
    prop_oneof![odd, numbers]
}

/// Rules with their parts, each of which may be nonsense.
fn rules() -> impl Strategy<Value = Vec<(Vec<Piece>, Vec<Piece>)>> {
    let rule = (
        prop::collection::vec(peers(), 0..4),
        prop::collection::vec(ports(), 0..4),
    );
    prop::collection::vec(rule, 0..4)
}

fn values(pieces: &[Piece], readable_only: bool) -> Vec<Value> {
    let wanted = pieces.iter().filter(|(_, readable)| *readable || !readable_only);
    wanted.map(|(value, _)| value.clone()).collect()
}

proptest! {
    /// Whatever an object holds, it's read as if it held nothing but what can be read; and a rule of which
    /// nothing can be is nobody's, never everybody's.
    #[test]
    fn nonsense_is_left_out_and_opens_nothing(rules in rules(), (pods, selects) in selectors()) {
        let spec = |readable_only: bool| {
            let rules = rules.iter().map(|(from, ports)| {
                json!({"from": values(from, readable_only), "ports": values(ports, readable_only)})
            });
            json!({"podSelector": pods, "ingress": rules.collect::<Vec<_>>()})
        };
        let (whole, problems) = read(&spec(false));
        let (clean, _) = read(&spec(true));
        let all = rules.iter().flat_map(|(from, ports)| [from, ports]).flatten();
        let nonsense = all.filter(|(_, readable)| !readable).count();
        prop_assert_eq!(problems.is_empty(), nonsense == 0 && selects, "{:?}", problems);
        let (whole, clean) = (whole.ingress.unwrap(), clean.ingress.unwrap());
        if !selects {
            prop_assert!(whole.is_empty(), "who it's for isn't clear: nothing is allowed");
            return Ok(());
        }
        prop_assert_eq!(whole.len(), rules.len());
        for ((whole, clean), (from, ports)) in whole.iter().zip(clean).zip(&rules) {
            if from.is_empty() {
                prop_assert_eq!(&whole.peers, &None);
            } else {
                prop_assert_eq!(whole.peers.clone().unwrap(), clean.peers.unwrap_or_default());
            }
            if ports.is_empty() {
                prop_assert_eq!(&whole.ports, &None);
            } else {
                prop_assert_eq!(whole.ports.clone().unwrap(), clean.ports.unwrap_or_default());
            }
        }
    }
}
