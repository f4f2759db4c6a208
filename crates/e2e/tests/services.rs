//! Services as a new user meets them: made with kubectl, in every form, right and wrong.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use e2e::{Cluster, Options, eventually};
use serde_json::Value;

const WAIT: Duration = Duration::from_secs(60);

fn strings(value: &Value) -> Vec<&str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

/// The addresses of a Service's ready endpoints, as its slices tell them.
fn endpoints(cluster: &Cluster, service: &str) -> Vec<String> {
    let label = format!("kubernetes.io/service-name={service}");
    let slices = cluster.get(&["endpointslices", "-l", &label]);
    let slices = slices["items"].as_array().expect("a list").iter();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let mut addresses: Vec<_> = ready
        .map(|endpoint| endpoint["addresses"][0].as_str().expect("an address").to_owned())
        .collect();
    addresses.sort();
    addresses
}

fn until_endpoints(cluster: &Cluster, service: &str, app: &str) {
    eventually(WAIT, || {
        let mut expected: Vec<_> = cluster.pods(app).into_iter().map(|pod| pod.ip).collect();
        expected.sort();
        let found = endpoints(cluster, service);
        (found == expected)
            .then_some(())
            .ok_or_else(|| format!("{found:?} instead of {expected:?}"))
    });
}

const TAKEN: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: taken}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30000}]
"#;

#[test]
fn a_services_addresses_ports_and_endpoints_are_kubectls() {
    let cluster = Cluster::up("e2e-services", &Options::default());
    cluster.wait_nodes("condition=Ready", WAIT);
    let kubernetes = cluster.get(&["service", "kubernetes"]);
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(endpoints(&cluster, "kubernetes").len(), 1);
    let dns = cluster.get(&["-n", "kube-system", "service", "kube-dns"]);
    assert_eq!(dns["spec"]["clusterIP"], "10.96.0.10");

    cluster.deployment("web", 4);
    cluster
        .kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=8080"])
        .ok();
    until_endpoints(&cluster, "web", "web");
    let list = cluster.kubectl(&["get", "svc", "-o", "wide"]).ok();
    let web = cluster.get(&["service", "web"]);
    let ip = web["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    assert!(list.contains(&ip) && list.contains("app=web"), "{list}");
    let described = cluster.kubectl(&["describe", "service", "web"]).ok();
    let pods = cluster.pods("web");
    assert!(described.contains(&format!("{}:8080", pods[0].ip)), "{described}");
    let owned = cluster.kubectl(&["get", "ipaddresses"]).ok();
    assert!(
        owned.contains(&ip) && owned.contains("services/default/web"),
        "{owned}"
    );

    // Endpoints follow a rollout and a scale.
    cluster.kubectl(&["scale", "deployment/web", "--replicas=6"]).ok();
    cluster
        .kubectl(&["rollout", "status", "--timeout=60s", "deployment/web"])
        .ok();
    until_endpoints(&cluster, "web", "web");
    cluster.kubectl(&["scale", "deployment/web", "--replicas=0"]).ok();
    eventually(WAIT, || {
        let found = endpoints(&cluster, "web");
        found.is_empty().then_some(()).ok_or_else(|| format!("{found:?}"))
    });

    cluster
        .kubectl(&[
            "create",
            "service",
            "nodeport",
            "front",
            "--tcp=80:8080",
            "--node-port=30000",
        ])
        .ok();
    let refusal = cluster.kubectl_with(&["create", "-f", "-"], TAKEN).refused();
    let words = "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated";
    assert!(refusal.contains(words), "{refusal}");
    let patch = r#"{"spec":{"clusterIP":"10.96.0.77"}}"#;
    let refusal = cluster
        .kubectl(&["patch", "service", "web", "-p", patch])
        .refused();
    assert!(refusal.contains("may not change once set"), "{refusal}");
    let outside = [
        "create",
        "service",
        "clusterip",
        "out",
        "--tcp=80",
        "--clusterip=10.1.2.3",
    ];
    let refusal = cluster.kubectl(&outside).refused();
    assert!(refusal.contains("is not in the valid range"), "{refusal}");
    cluster
        .kubectl(&[
            "create",
            "service",
            "clusterip",
            "none",
            "--tcp=80",
            "--clusterip=None",
        ])
        .ok();
    cluster
        .kubectl(&[
            "create",
            "service",
            "externalname",
            "ext",
            "--external-name=example.org",
        ])
        .ok();
    let list = cluster.kubectl(&["get", "svc"]).ok();
    assert!(
        list.contains("80:30000/TCP") && list.contains("example.org"),
        "{list}"
    );
    cluster.kubectl(&["delete", "service", "front"]).ok();
    cluster.kubectl_with(&["create", "-f", "-"], TAKEN).ok();
    a_mistake_is_told_once(&cluster);
}

/// By one of the nodes, which all find it.
fn a_mistake_is_told_once(cluster: &Cluster) {
    let annotate = |strategy: &str| {
        let annotation = format!("ripstop.dev/load-balancing={strategy}");
        cluster
            .kubectl(&["annotate", "--overwrite", "service", "web", &annotation])
            .ok();
    };
    let told = |strategy: &str| {
        let events = cluster.get(&[
            "events",
            "--field-selector=involvedObject.name=web,reason=CannotBeUsed",
        ]);
        let events = events["items"].as_array().expect("a list has items");
        let message = |event: &Value| {
            event["message"]
                .as_str()
                .is_some_and(|text| text.contains(strategy))
        };
        match events.iter().filter(|event| message(event)).count() {
            1 => Ok(()),
            count => Err(format!("{count} of {events:?}")),
        }
    };
    for strategy in ["fastest", "nearest"] {
        annotate(strategy);
        eventually(WAIT, || told(strategy));
    }
    // By now every node has found the first one.
    told("fastest").expect("once");
    let described = cluster.kubectl(&["describe", "service", "web"]).ok();
    assert!(described.contains("CannotBeUsed"), "{described}");
}

#[test]
fn a_load_balancers_address_is_answered_and_moves_when_its_node_dies() {
    let cluster = Cluster::up("e2e-balancer", &Options::of("dual"));
    cluster.wait_nodes("condition=Ready", WAIT);
    cluster.deployment("web", 3);
    let dual = r#"{"spec":{"ipFamilyPolicy":"RequireDualStack"}}"#;
    let expose = [
        "expose",
        "deployment",
        "web",
        "--type=LoadBalancer",
        "--port=80",
        "--target-port=8080",
        "--overrides",
        dual,
    ];
    cluster.kubectl(&expose).ok();
    let announcer = |not: &str| {
        eventually(WAIT, || {
            let service = cluster.get(&["service", "web"]);
            let ingress = &service["status"]["loadBalancer"]["ingress"];
            let conditions = service["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let mut ours = conditions
                .iter()
                .filter(|c| c["type"] == "ripstop.dev/Announced" && c["status"] == "True");
            let message = ours
                .next()
                .and_then(|c| c["message"].as_str())
                .ok_or("nobody announces it")?;
            let node = message.split(' ').next().expect("a word").to_owned();
            let two = ingress.as_array().is_some_and(|ingress| ingress.len() == 2);
            (two && node != not)
                .then_some((node, ingress.clone()))
                .ok_or_else(|| service.to_string())
        })
    };
    let (first, ingress) = announcer("");
    let addresses: Vec<String> = ingress
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["ip"].as_str().expect("an address").to_owned())
        .collect();
    answered(&addresses);
    cluster.ripstop(&["node", "stop", &first]).ok();
    let (second, _) = announcer(&first);
    assert_ne!(first, second);
    answered(&addresses);
    let events = cluster
        .kubectl(&["get", "events", "--field-selector=involvedObject.name=web"])
        .ok();
    assert!(events.contains(&format!("{second} announces")), "{events}");
    let policies = cluster.get(&["service", "web"]);
    assert_eq!(strings(&policies["spec"]["ipFamilies"]).len(), 2);
}

/// The machine reaches every address: it is answered, if only with a refusal.
fn answered(addresses: &[String]) {
    const PATIENCE: Duration = Duration::from_secs(1);
    for address in addresses {
        let socket = (address.parse::<IpAddr>().expect("an address"), 80).into();
        eventually(WAIT, || match TcpStream::connect_timeout(&socket, PATIENCE) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(format!("{address}: {error}")),
        });
    }
}
