//! `ripstop trace` and `ripstop policy show` on manifests, as they're typed.

use std::fs;
use std::path::Path;
use std::process::Command;

const MANIFESTS: &str = r"
# What applies to the database.
apiVersion: apps/v1
kind: Deployment
metadata: {name: db}
spec:
  selector: {matchLabels: {role: db}}
  template:
    metadata: {labels: {role: db}}
    spec:
      containers: [{name: a, image: x, ports: [{name: redis, containerPort: 6379}]}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {role: db}, ports: [{port: 80, targetPort: redis}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db}
spec:
  podSelector: {matchLabels: {role: db}}
  ingress:
  - from:
    - podSelector: {matchLabels: {role: frontend}}
    - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}
    ports: [{port: redis}]
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: frontend, labels: {role: frontend}}, spec: {containers: []}}
- {apiVersion: v1, kind: Pod, metadata: {name: other, namespace: shop}, spec: {containers: []}}
";

/// Runs `ripstop` on the manifests: exit status, output, and what is said beside it.
fn ripstop(words: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("all.yaml"), MANIFESTS).expect("manifests");
    fs::write(folder.path().join("notes.txt"), "no manifest").expect("another file");
    run(words, folder.path())
}

fn run(words: &[&str], folder: &Path) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ripstop"))
        .args(words)
        .arg("-f")
        .arg(folder)
        .output()
        .expect("ripstop runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let status = output.status.code().expect("it ended by itself");
    (status, text(output.stdout), text(output.stderr))
}

#[test]
fn what_is_allowed_names_the_rule_and_what_was_assumed() {
    for to in ["pod/db", "db.default.svc.cluster.local", "svc/db"] {
        let port = if to == "pod/db" { "redis" } else { "80/tcp" };
        let (status, out, said) = ripstop(&["trace", "pod/frontend", to, "--port", port]);
        assert_eq!(status, 0, "{to}: {out}{said}");
        assert!(
            out.contains("allowed by ingress rule 0 of policy default/db"),
            "{out}"
        );
        assert!(out.contains("delivered to pod default/db"), "{out}");
        assert!(
            said.contains("assumed: each workload has one pod, of its own name: pod/db"),
            "{said}"
        );
    }
}

#[test]
fn what_is_denied_names_the_policies_and_is_status_1() {
    let (status, out, _) = ripstop(&["trace", "shop/pod/other", "svc/db"]);
    assert_eq!(status, 1, "{out}");
    assert!(
        out.contains("policy default/db isolates it, and no rule of it allows this"),
        "{out}"
    );
    let (status, out, _) = ripstop(&["trace", "192.0.2.200", "pod/db", "-p", "6379", "-o", "json"]);
    assert_eq!(status, 1, "{out}");
    let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["allowed"], false);
    assert_eq!(
        value["traces"][0]["verdict"]["policies"],
        serde_json::json!(["default/db"])
    );
}

#[test]
fn what_cannot_be_told_is_status_2_and_says_what_was_perhaps_meant() {
    let cases = [
        (&["pod/frontnd", "svc/db"][..], "perhaps frontend"),
        (&["pod/other", "svc/db"], "in the namespace shop"),
        (&["pod/frontend", "pod/db"], "which port is it about?"),
        (
            &["pod/frontend", "pod/db", "-p", "http"],
            "it has redis (6379/tcp)",
        ),
        (
            &["pod/frontend", "www.example.com", "-p", "80"],
            "give the address",
        ),
        (&["pod/frontend", "node/node-2", "-p", "80"], "perhaps node-1"),
        (&["pod/frontend", "pod/db", "-p", "80/icmp"], "is no port"),
    ];
    for (words, told) in cases {
        let words: Vec<&str> = ["trace"].into_iter().chain(words.iter().copied()).collect();
        let (status, out, said) = ripstop(&words);
        assert_eq!(status, 2, "{words:?}: {out}{said}");
        assert!(said.contains(told), "{words:?}: {said}");
    }
}

#[test]
fn manifests_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (status, _, said) = run(&["trace", "pod/a", "pod/b", "-p", "1"], folder.path());
    assert_eq!(status, 2);
    assert!(said.contains("has no manifests"), "{said}");
    fs::write(
        folder.path().join("odd.yaml"),
        "kind: Pod\nspec: {containers: 3}\n",
    )
    .expect("a manifest");
    let (status, _, said) = run(&["trace", "pod/a", "pod/b", "-p", "1"], folder.path());
    assert_eq!(status, 2);
    assert!(said.contains("odd.yaml"), "{said}");
}

#[test]
fn a_pods_policies_are_shown_in_words() {
    let (status, out, _) = ripstop(&["policy", "show", "db"]);
    assert_eq!(status, 0, "{out}");
    for told in [
        "rule 0: pods with role=frontend of this namespace; 192.0.2.0/24 except 192.0.2.128/25: redis/tcp",
        "egress: free",
        "pod default/frontend: redis/tcp (default/db rule 0)",
    ] {
        assert!(out.contains(told), "{told}: {out}");
    }
    let (_, out, _) = ripstop(&["policy", "show", "shop/pod/other", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["ingress"]["isolated"], false);
    assert_eq!(value["reachedBy"], serde_json::Value::Null);
}
