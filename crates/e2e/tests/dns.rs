//! Names, as programs in pods ask for them.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Cluster, Options, eventually};
use rstest::rstest;

const PODS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: my-service}
spec: {selector: {app: db}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: my-service.default.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, labels: {app: db}}
spec:
  hostname: db-0
  subdomain: db
  containers: [{name: a, image: localhost/ripstop/toolbox:1, readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: on-node}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  containers: [{name: a, image: localhost/ripstop/toolbox:1, command: [sleep, "100000"]}]
"#;

/// What `nslookup` finds for a name: addresses in order of text, or nothing.
fn lookup(cluster: &Cluster, pod: &str, name: &str) -> Vec<String> {
    let out = cluster.exec(pod, &["nslookup", name]).stdout;
    let answer = out.split("\n\n").skip(1);
    let lines = answer.flat_map(str::lines);
    let mut found: Vec<String> = lines
        .filter_map(|line| line.strip_prefix("Address: "))
        .map(|address| address.trim().to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

#[track_caller]
fn wait_for(cluster: &Cluster, pod: &str, name: &str, expected: &[String]) {
    eventually(Duration::from_secs(30), || {
        let found = lookup(cluster, pod, name);
        let whole = found == expected;
        whole
            .then_some(())
            .ok_or_else(|| format!("{name} in {pod} is {found:?}, not {expected:?}"))
    });
}

fn texts(value: &serde_json::Value) -> Vec<String> {
    let list = value.as_array().expect("a list");
    let mut texts: Vec<String> = list
        .iter()
        .map(|item| {
            item.as_str()
                .or_else(|| item["ip"].as_str())
                .expect("an address")
                .to_owned()
        })
        .collect();
    texts.sort();
    texts
}

#[rstest]
#[case::ipv4("ipv4")]
#[case::dual("dual")]
fn pods_find_services_by_name_and_go_on_while_the_control_plane_is_away(#[case] family: &'static str) {
    let options = Options {
        nodes: 2,
        ..Options::of(family)
    };
    let cluster = Cluster::up(&format!("e2e-dns-{family}"), &options);
    cluster.kubectl_with(&["create", "-f", "-"], PODS).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"])
        .ok();
    let service = texts(&cluster.get(&["service", "my-service"])["spec"]["clusterIPs"]);
    let kubernetes = texts(&cluster.get(&["service", "kubernetes"])["spec"]["clusterIPs"]);
    let pod = texts(&cluster.get(&["pod", "db-0"])["status"]["podIPs"]);
    let first = vec![pod[0].clone()];
    let of_db = if family == "dual" { first } else { pod.clone() };
    for from in ["db-0", "on-node"] {
        for (name, expected) in [
            ("my-service", &service),
            ("my-service.default.svc.cluster.local", &service),
            ("kubernetes.default.svc.cluster.local", &kubernetes),
            ("db.default.svc.cluster.local", &of_db),
            ("db-0.db.default.svc.cluster.local", &of_db),
            ("alias.default.svc.cluster.local", &service),
        ] {
            wait_for(&cluster, from, name, expected);
        }
    }
    // On its node's network a pod has its node's name, too.
    let node = cluster.get(&["pod", "on-node"])["spec"]["nodeName"].clone();
    assert_eq!(node, cluster.exec("on-node", &["hostname"]).ok().trim());
    // Short names, with the search list gone through for the pod.
    for name in ["db", "db.default", "db-0.db.default.svc"] {
        let url = format!("http://{name}:8080/hello");
        let text = cluster.exec("db-0", &["toolbox", "get", &url]).ok();
        assert!(text.contains("\"hostname\":\"db-0\""), "{text}");
    }
    assert_eq!(
        lookup(&cluster, "db-0", "nobody.default.svc.cluster.local"),
        [""; 0]
    );
    let conf = cluster.exec("db-0", &["cat", "/etc/resolv.conf"]).ok();
    assert!(
        conf.contains("nameserver 10.96.0.10") && conf.contains("ndots:5"),
        "{conf}"
    );
    let hosts = cluster.exec("db-0", &["cat", "/etc/hosts"]).ok();
    assert!(
        hosts.contains("\tdb-0.db.default.svc.cluster.local\tdb-0"),
        "{hosts}"
    );
    let endpoints = cluster.get(&["endpoints", "-n", "kube-system", "kube-dns"]);
    let ready = texts(&endpoints["subsets"][0]["addresses"]);
    assert!(!ready.is_empty(), "{endpoints}");
    for endpoint in ready.iter().filter(|ip| !ip.contains(':')) {
        let url = format!("http://{endpoint}:9153/ready");
        cluster.exec("db-0", &["wget", "-qO-", &url]).ok();
    }

    // The server is away, and the DNS begins anew: what was known is told.
    let killed = stop(&cluster, "server");
    kill(cluster.pid("dns node-1"));
    kill(cluster.pid("dns node-2"));
    let node = |pod: &str| format!("/run/netns/ripstop-{}-{}", cluster.name(), pod);
    for name in ["node-1", "node-2"] {
        eventually(Duration::from_secs(30), || {
            ask(Path::new(&node(name)), "my-service.default.svc.cluster.local").map(drop)
        });
    }
    go_on(killed);
    wait_for(&cluster, "db-0", "my-service", &service);
}

/// Stops a process without ending it: whoever looks after it doesn't start another.
fn stop(cluster: &Cluster, process: &str) -> i32 {
    let pid = cluster.pid(process);
    signal(pid, "-STOP");
    pid
}

fn go_on(pid: i32) {
    signal(pid, "-CONT");
}

fn kill(pid: i32) {
    signal(pid, "-KILL");
}

fn signal(pid: i32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// Asks the DNS from a node's network.
fn ask(netns: &Path, name: &str) -> Result<String, String> {
    let net = format!("--net={}", netns.display());
    let out = Command::new("nsenter")
        .args([&net, "busybox", "nslookup", name, "10.96.0.10"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    match out.status.success() {
        true => Ok(text),
        false => Err(text),
    }
}

/// A question of which every answer is counted.
fn question(id: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in "kubernetes.default.svc.cluster.local".split('.') {
        bytes.push(u8::try_from(label.len()).expect("short"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[test]
fn questions_wait_while_the_dns_is_killed_and_started() {
    let options = Options {
        nodes: 1,
        ..Options::of("ipv4")
    };
    let cluster = Cluster::up("e2e-dns-kill", &options);
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
    // From the machine, to the node's own address.
    let node = cluster.get(&["nodes"])["items"][0]["status"]["addresses"][0]["address"].clone();
    let node = node.as_str().expect("an address").to_owned();
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.connect((node.as_str(), 53)).expect("a route");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("set");
    let mut buffer = [0; 512];
    eventually(Duration::from_secs(30), || {
        socket.send(&question(1)).map_err(|error| error.to_string())?;
        let length = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
        (length > 60 && buffer[3] & 0xf == 0)
            .then_some(())
            .ok_or_else(|| "not yet".to_owned())
    });
    let (mut kills, mut lost) = (0, 0);
    for id in 2..2000u16 {
        if id % 500 == 0 {
            kill(cluster.pid("dns node-1"));
            kills += 1;
        }
        socket.send(&question(id)).expect("sent");
        // The one that was read already when it was killed may be lost; those that come while nobody
        // reads wait.
        match socket.recv(&mut buffer) {
            Ok(_) => assert_eq!(buffer[..2], id.to_be_bytes(), "in order, none twice"),
            Err(_) => lost += 1,
        }
    }
    assert!(lost <= kills, "{lost} lost in {kills} kills");
}
