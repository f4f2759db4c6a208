//! The benchmark still works, whatever it measures.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn a_quick_run_has_a_figure_of_everything() {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/release/ripstop");
    let ripstop = std::env::var_os("RIPSTOP_BIN").map_or(built, PathBuf::from);
    assert!(
        ripstop.is_file(),
        "{} is missing: run `make build`, or set RIPSTOP_BIN",
        ripstop.display()
    );
    let output = Command::new(env!("CARGO_BIN_EXE_ripstop-bench"))
        .args(["--quick", "--name", "benchquick", "--ripstop"])
        .arg(&ripstop)
        .args([
            "--only",
            "paths,first,add,crowd,peers,names,takeover,api",
            "--beside",
            "plain,veth",
        ])
        .output()
        .unwrap();
    let (table, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{table}\n{said}");
    for row in [
        "| pod to pod on one node | plain routing | Ripstop | bar |  | by a Service | bar |  | by a Service, 1,000 policies | bar |  | veth alone |",
        "| pod to pod across nodes | plain routing | Ripstop | bar |  | by a Service | bar |  | by a Service, 1,000 policies | bar |  |",
        "| request and response |",
        "| connection per request |",
        "| one TCP stream |",
        "| eight TCP streams |",
        "| UDP of 64 bytes |",
        "| a new pod's first connection to another node's pod",
        "| CNI ADD, median |",
        "| CNI DEL, median |",
        "| agent, idle, with 20 pods |",
        "| 1000 nodes, routes: planned and written, cold |",
        "| 1000 nodes, tunnels: one of them changes |",
        "| DNS, 5000 Services: time an answer at full load, against dnsmasq |",
        "| a load balancer's announcer dies: without an answer for |",
        "| writes |",
        "| watch events |",
        "| a write seen by 100 watches, 99 of 100 |",
        "| a list of 500 pods",
        "| server, resident memory, with 1000 objects",
    ] {
        assert!(table.contains(row), "no {row} in\n{table}");
    }
    assert!(!table.contains("NaN") && !table.contains("inf"), "{table}");
}
