use supervisor::protocol::Phase;

use super::*;

#[test]
fn a_node_that_reported_before_its_agent_was_started_has_not_reported() {
    let agent = protocol::ProcessStatus {
        name: "agent node-1".to_owned(),
        pid: Some(7),
        state: protocol::ProcessState::Running,
        restarts: 0,
        since: 1000,
        last_end: None,
        log: "/l".into(),
    };
    let status = Status {
        name: "local".to_owned(),
        version: String::new(),
        phase: Phase::Running,
        ip_family: "ipv4".to_owned(),
        server: String::new(),
        pod_network: model::PodNetworkMode::Auto,
        nodes: Vec::new(),
        processes: vec![agent],
        notes: Vec::new(),
    };
    let alive = |time| BTreeMap::from([("node-1".to_owned(), time)]);
    assert!(has_reported(&status, &alive(1000), "node-1"));
    assert!(!has_reported(&status, &alive(999), "node-1"));
    assert!(!has_reported(&status, &BTreeMap::new(), "node-1"));
    assert!(!has_reported(&status, &alive(2000), "node-2"));
}
