//! Other kinds of pod network than the one that everything else runs on.

use std::time::Duration;

use e2e::{Cluster, Options};
use serde_json::Value;

#[test]
fn a_cluster_of_tunnels_passes_every_check() {
    let options = Options {
        nodes: 2,
        ..Options::default()
    };
    let cluster = Cluster::up_with("e2e-vxlan", &options, &["--pod-network", "vxlan"]);
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
    let report = cluster.ripstop(&["check", "-o", "json"]).ok();
    let report: Value = serde_json::from_str(&report).expect("a report in JSON");
    let rows = report["rows"].as_array().expect("rows");
    for row in rows {
        assert_eq!(row["result"], "passed", "{row}");
    }
    let carried: Vec<&str> = rows
        .iter()
        .filter(|row| row["check"] == "path MTU between pods")
        .filter_map(|row| row["detail"].as_str())
        .collect();
    assert_eq!(carried.len(), 2, "a row for each pair: {report:#}");
    // The nodes' links take 1500.
    assert!(
        carried.iter().all(|detail| detail.starts_with("1450 bytes")),
        "{carried:?}"
    );

    let status = cluster.ripstop(&["status", "-o", "json"]).ok();
    let status: Value = serde_json::from_str(&status).expect("a status in JSON");
    assert_eq!(status["podNetwork"], "vxlan");
    // It is what it was made as.
    let refused = cluster.ripstop(&["up", "--no-kubeconfig", "--pod-network", "native"]);
    let said = refused.refused();
    assert!(
        said.contains("has the pod network vxlan, and native was asked for"),
        "{said}"
    );
    cluster.ripstop(&["up", "--no-kubeconfig"]).ok();
}
