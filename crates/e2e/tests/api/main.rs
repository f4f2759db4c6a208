//! The API of a whole cluster: what is proxied to pods and Services, streams, and snapshots.

mod streams;

use std::time::Duration;

use e2e::{Cluster, Options, eventually};
use rstest::rstest;
use serde_json::Value;

/// A Service of no pods, and the endpoints that somebody wrote for it.
fn service(pod: &e2e::Pod) -> String {
    let family = if pod.ip.contains(':') { "IPv6" } else { "IPv4" };
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: None, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
endpoints: [{{addresses: ["{}"], conditions: {{ready: true}}}}]
ports: [{{name: http, port: 8080}}]
"#,
        pod.ip
    )
}

#[rstest]
#[case::ipv4("ipv4")]
#[case::ipv6("ipv6")]
fn pods_services_and_nodes_are_reached_through_the_server(#[case] family: &'static str) {
    let options = Options {
        nodes: 2,
        ..Options::of(family)
    };
    let cluster = Cluster::up(&format!("e2e-proxy-{family}"), &options);
    cluster.deployment("web", 2);
    let pods = cluster.pods("web");
    let raw = |path: &str| cluster.kubectl(&["get", "--raw", path]);
    let answer = |path: &str| -> Value {
        // The route to a node's pods is there soon after the node.
        let text = eventually(Duration::from_secs(15), || {
            let outcome = raw(path);
            if outcome.code == Some(0) {
                Ok(outcome.stdout)
            } else {
                Err(outcome.stderr)
            }
        });
        serde_json::from_str(&text).expect("the toolbox answers in JSON")
    };
    for pod in &pods {
        let path = format!(
            "/api/v1/namespaces/default/pods/{}:8080/proxy/a%2Fb?c=d",
            pod.name
        );
        let answer = answer(&path);
        assert_eq!(answer["hostname"], pod.name.as_str());
    }
    cluster
        .kubectl_with(&["create", "-f", "-"], &service(&pods[0]))
        .ok();
    for id in ["web:80", "http:web:http"] {
        let path = format!("/api/v1/namespaces/default/services/{id}/proxy/hello");
        let answer = answer(&path);
        assert_eq!(
            (&answer["hostname"], &answer["path"]),
            (&pods[0].name.as_str().into(), &"/hello".into())
        );
    }
    let refused = raw("/api/v1/namespaces/default/services/web:81/proxy/").refused();
    assert!(refused.contains("no service port 81 found"), "{refused}");
    let refused = raw(&format!(
        "/api/v1/namespaces/default/pods/{}:9/proxy/",
        pods[0].name
    ))
    .refused();
    assert!(refused.contains("error trying to reach service"), "{refused}");
    let health = raw(&format!("/api/v1/nodes/{}/proxy/healthz", pods[0].node)).ok();
    assert_eq!(health.trim(), "ok");
    let front = [
        "expose",
        "deployment",
        "web",
        "--name=front",
        "--port=80",
        "--target-port=8080",
    ];
    cluster.kubectl(&front).ok();
    streams::pass(&cluster, &pods[0]);
}

#[test]
fn a_snapshot_brings_a_cluster_back_to_where_it_was() {
    let options = Options {
        nodes: 1,
        ..Options::default()
    };
    let cluster = Cluster::up("e2e-snapshot", &options);
    cluster.deployment("web", 2);
    cluster.kubectl(&["create", "configmap", "before"]).ok();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("cluster.snapshot");
    let file = file.to_str().expect("its path is text");
    let saved = cluster.ripstop(&["snapshot", "save", file]).ok();
    assert!(saved.contains("objects"), "{saved}");
    let refused = cluster.ripstop(&["snapshot", "restore", file]).refused();
    assert!(
        refused.contains("down --name e2e-snapshot --keep-data"),
        "{refused}"
    );
    cluster.kubectl(&["create", "configmap", "after"]).ok();
    cluster.kubectl(&["scale", "deployment/web", "--replicas=4"]).ok();
    // kubectl's own lists have no version.
    let list = cluster.kubectl(&["get", "--raw", "/api/v1/configmaps"]).ok();
    let list: serde_json::Value = serde_json::from_str(&list).expect("a list is JSON");
    let version = list["metadata"]["resourceVersion"].as_str().map(str::to_owned);

    cluster.ripstop(&["down", "--keep-data"]).ok();
    let refused = cluster.ripstop(&["snapshot", "save", file]).refused();
    assert!(refused.contains("ripstop up"), "{refused}");
    cluster.ripstop(&["snapshot", "restore", file]).ok();
    cluster.ripstop(&["up", "--no-kubeconfig"]).ok();
    let names = cluster.kubectl(&["get", "configmaps", "-o", "name"]).ok();
    assert!(names.contains("/before") && !names.contains("/after"), "{names}");
    let watch = format!(
        "/api/v1/configmaps?watch=1&timeoutSeconds=5&resourceVersion={}",
        version.expect("a list has a version")
    );
    let told = cluster.kubectl(&["get", "--raw", &watch]).ok();
    assert!(told.contains("\"code\":410"), "{told}");
    let status = ["rollout", "status", "--timeout=60s", "deployment/web"];
    cluster.kubectl(&status).ok();
    eventually(Duration::from_secs(60), || match cluster.pods("web").len() {
        2 => Ok(()),
        count => Err(format!("{count} pods")),
    });
}
