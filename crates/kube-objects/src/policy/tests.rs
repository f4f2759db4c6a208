//! NetworkPolicies as people write them, and as they shouldn't.

use model::Direction;
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
