//! Pods' attachments through containerd: host ports, limits, and nothing left of any of them.

mod held;
mod kills;
mod leaks;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Options, eventually, run};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn pod(name: &str, port: Value, annotations: Value) -> Value {
    let container = json!({"name": "web", "image": "localhost/ripstop/toolbox:1", "ports": [port]});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations, "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [container], "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false},
    })
}

fn apply(cluster: &Cluster, object: &Value) {
    cluster
        .kubectl_with(&["create", "-f", "-"], &object.to_string())
        .ok();
}

fn one_node(name: &str) -> Cluster {
    let options = Options {
        nodes: 1,
        ip_family: Some("dual"),
    };
    Cluster::up(name, &options)
}

/// What a web server answers, from the machine.
fn ask(to: SocketAddr) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{to}: {error}");
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).map_err(failed)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(failed)?;
    write!(stream, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    Ok(answer)
}

fn in_node(cluster: &Cluster, command: &[&str]) -> String {
    let netns = format!("--net=/run/netns/ripstop-{}-node-1", cluster.name());
    run(Command::new("nsenter").arg(netns).args(command), None).ok()
}

/// The messages of a pod's events of that reason.
fn events(cluster: &Cluster, pod: &str, reason: &str) -> Vec<String> {
    let of_pod = format!("involvedObject.name={pod},reason={reason}");
    let list = cluster.get(&["events", "--field-selector", &of_pod]);
    let events = list["items"].as_array().expect("a list has items").iter();
    let messages = events.map(|event| event["message"].as_str().expect("text").to_owned());
    messages.collect()
}

#[test]
fn host_ports_and_limits_come_through_the_container_runtime() {
    let cluster = one_node("e2e-ports");
    let port = json!({"containerPort": 8080, "hostPort": 18080});
    let limits = json!({"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "5M"});
    apply(&cluster, &pod("web", port.clone(), limits));
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/web"])
        .ok();
    let node = cluster.get(&["node", "node-1"]);
    let addresses = node["status"]["addresses"].as_array().expect("a list").iter();
    let internal = addresses.filter(|address| address["type"] == "InternalIP");
    let texts = internal.map(|address| address["address"].as_str().expect("text"));
    let ips: Vec<IpAddr> = texts.map(|text| text.parse().expect("an address")).collect();
    assert_eq!(ips.len(), 2);
    for ip in &ips {
        let answer = eventually(PATIENCE, || ask(SocketAddr::new(*ip, 18080)));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let queues = in_node(&cluster, &["tc", "qdisc", "show"]);
    assert!(
        queues.contains("tbf") && queues.contains("rate 10Mbit"),
        "{queues}"
    );

    // The same port again, past the scheduler.
    apply(&cluster, &pod("second", port, json!({})));
    eventually(PATIENCE, || {
        let status = cluster.get(&["pod", "second"])["status"].clone();
        match status["reason"] == "NodePorts" {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });
    cluster
        .kubectl(&["delete", "pod", "web", "second", "--wait"])
        .ok();
    for ip in ips {
        eventually(PATIENCE, || match ask(SocketAddr::new(ip, 18080)) {
            Ok(answer) => Err(answer),
            Err(_) => Ok(()),
        });
    }
}

#[test]
fn a_rate_that_cannot_be_is_said_once_and_waits_for_its_correction() {
    let cluster = one_node("e2e-rates");
    let wrong = json!({"kubernetes.io/ingress-bandwidth": "10"});
    apply(&cluster, &pod("web", json!({"containerPort": 8080}), wrong));
    let said = || events(&cluster, "web", "FailedCreatePodSandBox");
    eventually(PATIENCE, || match said().as_slice() {
        [message] if message.contains("kubernetes.io/ingress-bandwidth") => Ok(()),
        messages => Err(format!("{messages:?}")),
    });
    let right = "kubernetes.io/ingress-bandwidth=10M";
    cluster
        .kubectl(&["annotate", "--overwrite", "pod", "web", right])
        .ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/web"])
        .ok();
    assert_eq!(said().len(), 1);
}
