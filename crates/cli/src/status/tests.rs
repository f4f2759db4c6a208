use supervisor::protocol::{NodeStatus, ProcessStatus};

use super::*;

fn status() -> Status {
    let process = |name: &str, pid, state, last_end: Option<&str>| ProcessStatus {
        name: name.to_owned(),
        pid,
        state,
        restarts: u32::from(last_end.is_some()),
        since: 1000,
        last_end: last_end.map(str::to_owned),
        log: "/var/lib/ripstop/local/log/x.log".into(),
    };
    let node = |name: &str, address: &str, state| NodeStatus {
        name: name.to_owned(),
        addresses: vec![address.to_owned()],
        state,
    };
    Status {
        name: "local".to_owned(),
        version: "0.1.0".to_owned(),
        phase: Phase::Running,
        ip_family: "ipv4".to_owned(),
        server: "https://172.30.0.2:6443".to_owned(),
        pod_network: model::PodNetworkMode::Auto,
        nodes: vec![
            node("node-1", "172.30.0.11", NodeState::Running),
            node("node-2", "172.30.0.12", NodeState::Stopped),
            node("node-3", "172.30.0.13", NodeState::Running),
        ],
        processes: vec![
            process("supervisor", Some(100), ProcessState::Running, None),
            process("agent node-1", Some(107), ProcessState::Running, Some("signal 9")),
            process("agent node-2", None, ProcessState::Stopped, None),
        ],
        notes: Vec::new(),
    }
}

fn views() -> Result<Vec<NodeView>, String> {
    let view = |name: &str, ready| NodeView {
        name: name.to_owned(),
        ready,
        pod_cidrs: vec!["10.244.0.0/24".to_owned()],
        version: Some("v1.36.0".to_owned()),
    };
    Ok(vec![
        view("node-1", Readiness::Ready),
        view(
            "node-2",
            Readiness::NotReady("the node stopped reporting".to_owned()),
        ),
    ])
}

#[test]
fn nodes_are_shown_as_power_and_api_tell() {
    insta::assert_snapshot!(node_table(&status(), &views()));
}

#[test]
fn each_address_of_a_dual_stack_node_is_shown() {
    let mut status = status();
    status.nodes[0].addresses.push("fd00:172:30::11".to_owned());
    let mut views = views().expect("there are some");
    views[0].pod_cidrs.push("fd00:10:244::/64".to_owned());
    let table = node_table(&status, &Ok(views.clone()));
    assert!(table.contains("172.30.0.11,fd00:172:30::11"), "{table}");
    assert!(table.contains("10.244.0.0/24,fd00:10:244::/64"), "{table}");
    let value = as_json(&status, &Ok(views));
    assert_eq!(value["nodes"][0]["podCIDRs"][1], "fd00:10:244::/64");
    assert_eq!(value["nodes"][0]["addresses"][1], "fd00:172:30::11");
}

#[test]
fn processes_are_shown_with_what_happened_to_them() {
    insta::assert_snapshot!(process_table(&status(), 1300));
}

#[test]
fn json_has_both_views_of_a_node() {
    let value = as_json(&status(), &views());
    assert_eq!(value["nodes"][0]["ready"], true);
    assert_eq!(value["nodes"][1]["state"], "stopped");
    assert_eq!(value["nodes"][2]["ready"], Value::Null);
    assert_eq!(value["processes"][1]["name"], "agent node-1");
    assert_eq!(value["processes"][1]["pid"], 107);
    let value = as_json(&status(), &Err("no answer".to_owned()));
    assert_eq!(value["apiError"], "no answer");
}
