//! Services in use: every type from pods and from the machine, in both families, by one cluster.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use e2e::{Cluster, Options, Pod, eventually};
use serde_json::Value;

const WAIT: Duration = Duration::from_secs(60);
/// Enough that one of four pods is left out by chance once in a hundred thousand million times.
const MANY: usize = 96;
const REFUSED: i32 = 4;

const OBJECTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: toolbox
        image: localhost/ripstop/toolbox:1
        ports: [{name: front, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: front}
  - {name: echo, port: 9000, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: port}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30180}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30181}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  sessionAffinity: ClientIP
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: turns, annotations: {ripstop.dev/load-balancing: round-robin}}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: hashed, annotations: {ripstop.dev/load-balancing: maglev}}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: least, annotations: {ripstop.dev/load-balancing: least-connections}}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  selector: {app: web}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
"#;

/// A cluster with all of that and somebody who asks.
struct Lab {
    cluster: Cluster,
    asker: Pod,
    web: Vec<Pod>,
}

impl Lab {
    fn new() -> Lab {
        let cluster = Cluster::up("e2e-traffic", &Options::of("dual"));
        cluster.wait_nodes("condition=Ready", WAIT);
        cluster.kubectl_with(&["apply", "-f", "-"], OBJECTS).ok();
        cluster.deployment("asker", 1);
        cluster
            .kubectl(&["rollout", "status", "--timeout=60s", "deployment/web"])
            .ok();
        let (asker, web) = (cluster.pods("asker").remove(0), cluster.pods("web"));
        assert_eq!(web.len(), 4);
        Lab { cluster, asker, web }
    }

    fn addresses(&self, service: &str) -> Vec<IpAddr> {
        let object = self.cluster.get(&["service", service]);
        let addresses = object["spec"]["clusterIPs"].as_array().expect("addresses");
        let addresses = addresses.iter().filter_map(Value::as_str);
        addresses.map(|text| text.parse().expect("an address")).collect()
    }

    fn url(&self, service: &str) -> String {
        format!("http://{}/", SocketAddr::new(self.addresses(service)[0], 80))
    }

    /// How often each pod answered so many requests of the asker's, one after the other.
    fn counts(&self, url: &str, requests: usize) -> BTreeMap<String, usize> {
        let mut command = vec!["toolbox", "get", "--field", "hostname"];
        command.extend(std::iter::repeat_n(url, requests));
        let text = self.cluster.exec(&self.asker.name, &command).ok();
        let mut counts = BTreeMap::new();
        for name in text.lines() {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
        assert_eq!(counts.values().sum::<usize>(), requests, "{text}");
        counts
    }

    /// Until all pods are endpoints of it on the asker's node.
    fn until_all(&self, url: &str) -> BTreeMap<String, usize> {
        eventually(WAIT, || {
            let mut command = vec!["toolbox", "get", "--json"];
            command.extend(std::iter::repeat_n(url, MANY));
            let text = self.cluster.exec(&self.asker.name, &command).stdout;
            let mut counts = BTreeMap::new();
            for line in text.lines() {
                let answer: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
                let name = answer["body"]["hostname"]
                    .as_str()
                    .ok_or_else(|| line.to_owned())?;
                *counts.entry(name.to_owned()).or_insert(0) += 1;
            }
            let all = counts.len() == self.web.len();
            all.then_some(counts.clone()).ok_or_else(|| format!("{counts:?}"))
        })
    }

    /// Whom the machine was seen as, by a port of a node.
    fn seen_from_outside(&self, at: SocketAddr) -> Result<IpAddr, String> {
        use std::io::{Read, Write};
        let told = |error: std::io::Error| format!("{at}: {error}");
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1)).map_err(told)?;
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .map_err(told)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(told)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(told)?;
        let body = answer.split_once("\r\n\r\n").ok_or("no body")?.1;
        let body: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
        let client = body["client_ip"].as_str().ok_or("no client")?;
        client.parse().map_err(|_| client.to_owned())
    }
}

#[test]
fn services_are_what_their_manifests_say() {
    let lab = Lab::new();
    cluster_addresses(&lab);
    ways_to_pick(&lab);
    names(&lab);
    ports_of_nodes(&lab);
    types_change_in_use(&lab);
    proxies_see_services(&lab);
}

/// TCP and UDP in both families, by a named port; a refusal where nobody is.
fn cluster_addresses(lab: &Lab) {
    let addresses = lab.addresses("web");
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let url = format!("http://{}/", SocketAddr::new(address, 80));
        lab.until_all(&url);
        let text = lab
            .cluster
            .exec(&lab.asker.name, &["toolbox", "get", "--field", "client_ip", &url])
            .ok();
        let seen: IpAddr = text.trim().parse().expect("an address");
        assert!(
            lab.asker.ips.contains(&seen),
            "seen as {seen}, not as {:?}",
            lab.asker.ips
        );
        let address = address.to_string();
        let echo = ["toolbox", "udp", "--tries", "5", &address, "9000", "hello"];
        assert_eq!(lab.cluster.exec(&lab.asker.name, &echo).ok().trim(), "hello");
    }
    let nobody = lab.url("nobody");
    eventually(WAIT, || {
        let outcome = lab.cluster.exec(&lab.asker.name, &["toolbox", "get", &nobody]);
        (outcome.code == Some(REFUSED))
            .then_some(())
            .ok_or(outcome.stderr)
    });
}

/// Each strategy, once all four pods are known to the asker's node.
fn ways_to_pick(lab: &Lab) {
    // Of the same endpoints; the others' take as long to get there.
    lab.until_all(&lab.url("turns"));
    let turns = lab.counts(&lab.url("turns"), 40);
    assert!(
        turns.len() == 4 && turns.values().all(|count| (9..=11).contains(count)),
        "{turns:?}"
    );
    lab.until_all(&lab.url("least"));
    for (service, answers) in [("sticky", 24), ("hashed", 24)] {
        let url = lab.url(service);
        eventually(WAIT, || {
            let one = lab.counts(&url, answers);
            (one.len() == 1)
                .then_some(())
                .ok_or_else(|| format!("{service}: {one:?}"))
        });
        let (first, again) = (lab.counts(&url, answers), lab.counts(&url, answers));
        assert_eq!((first.len(), &first), (1, &again), "{service}");
    }
}

/// Headless Services have their pods' addresses, others' names lead there.
fn names(lab: &Lab) {
    let look = |name: &str| lab.cluster.exec(&lab.asker.name, &["nslookup", name]).stdout;
    let headless = "headless.default.svc.cluster.local";
    eventually(WAIT, || {
        let text = look(headless);
        let mut missing = lab
            .web
            .iter()
            .filter(|pod| !text.contains(&format!("Address: {}\n", pod.ip)));
        missing
            .next()
            .map_or(Ok(()), |pod| Err(format!("{} isn't in {text}", pod.ip)))
    });
    let text = look("elsewhere.default.svc.cluster.local");
    assert!(
        text.contains("canonical name = web.default.svc.cluster.local"),
        "{text}"
    );
    assert!(
        text.contains(&format!("Address: {}\n", lab.addresses("web")[0])),
        "{text}"
    );
}

/// From the machine to every node, and from a pod to every node; the machine itself has no such port.
fn ports_of_nodes(lab: &Lab) {
    let nodes = lab.cluster.get(&["nodes"]);
    let mut machine = Vec::new();
    for node in nodes["items"].as_array().expect("a list") {
        let name = node["metadata"]["name"].as_str().expect("a name");
        let addresses = node["status"]["addresses"].as_array().expect("a list").iter();
        let addresses = addresses.filter(|address| address["type"] == "InternalIP");
        for address in addresses.map(|address| address["address"].as_str().expect("an address")) {
            let address: IpAddr = address.parse().expect("an address");
            machine.push(first_of_network(address));
            eventually(WAIT, || lab.seen_from_outside(SocketAddr::new(address, 30180)));
            let url = format!("http://{}/", SocketAddr::new(address, 30180));
            lab.cluster.exec(&lab.asker.name, &["toolbox", "get", &url]).ok();
            if lab.web.iter().any(|pod| pod.node == name) {
                let seen = eventually(WAIT, || lab.seen_from_outside(SocketAddr::new(address, 30181)));
                assert!(seen == first_of_network(address), "{name}: seen as {seen}");
            }
        }
    }
    for own in machine.into_iter().chain([[127, 0, 0, 1].into()]) {
        let error =
            TcpStream::connect_timeout(&(own, 30180).into(), Duration::from_secs(5)).expect_err("no port");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{own}");
    }
}

/// The machine's own address in the nodes' network, of the family of a node's.
fn first_of_network(node: IpAddr) -> IpAddr {
    match node {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [a, b, c, 1].into()
        }
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[7] = 1;
            segments.into()
        }
    }
}

/// Requests go on while a Service gets and loses ports of nodes.
fn types_change_in_use(lab: &Lab) {
    let url = lab.url("web");
    let load = [
        "exec",
        &lab.asker.name,
        "--",
        "toolbox",
        "load",
        "--json",
        "--fresh",
        "--rate",
        "50",
        "--seconds",
        "4",
        &url,
    ];
    let mut command = lab.cluster.kubectl_command(&load);
    let running = command.stdout(Stdio::piped()).spawn().expect("kubectl starts");
    for kind in ["NodePort", "LoadBalancer", "ClusterIP"] {
        let patch = format!(r#"{{"spec":{{"type":"{kind}"}}}}"#);
        lab.cluster
            .kubectl(&["patch", "service", "web", "-p", &patch])
            .ok();
    }
    let output = running.wait_with_output().expect("it ends");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let read: Value = serde_json::from_str(report.trim()).expect("a line of JSON");
    assert!(
        read["failed"] == 0 && read["answered"].as_u64() > Some(0),
        "{report}"
    );
}

/// A pod that says so keeps the Service's address at its sockets, and reaches it all the same.
fn proxies_see_services(lab: &Lab) {
    let IpAddr::V4(address) = lab.addresses("web")[0] else {
        panic!("IPv4 is the preferred family");
    };
    let url = format!("http://{address}/");
    // As the kernel writes the far end of a connection that is there.
    let far = format!(" {:08X}:0050 01 ", u32::from_ne_bytes(address.octets()));
    let script = format!(
        "toolbox load --seconds 1 {url} >/dev/null & load=$!; \
         while kill -0 $load 2>/dev/null; do grep -q '{far}' /proc/net/tcp && echo seen && break; done; wait $load"
    );
    let sees = || lab.cluster.exec(&lab.asker.name, &["sh", "-c", &script]).ok();
    assert_eq!(sees(), "");
    let word = |word: &str| {
        let annotate = ["annotate", "--overwrite", "pod", &lab.asker.name, word];
        lab.cluster.kubectl(&annotate).ok();
    };
    word("ripstop.dev/socket-translation=false");
    eventually(WAIT, || {
        (sees() == "seen\n")
            .then_some(())
            .ok_or_else(|| "not seen".to_owned())
    });
    // Of the Namespace, against which a pod may decide.
    let namespace = [
        "annotate",
        "namespace",
        "default",
        "ripstop.dev/socket-translation=false",
    ];
    lab.cluster.kubectl(&namespace).ok();
    word("ripstop.dev/socket-translation=true");
    eventually(WAIT, || {
        sees().is_empty().then_some(()).ok_or_else(|| "seen".to_owned())
    });
}
