//! The cluster, and what is asked in it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Options, Outside, PATIENCE, PodLoad, Tally, ask, eventually};
use serde_json::{Value, json};

/// How long something may take to be as it should.
pub(crate) const WAIT: Duration = Duration::from_secs(60);
/// Pods of the Service `web`.
const REPLICAS: u32 = 6;
const IMAGE: &str = "localhost/ripstop/toolbox:1";

/// A cluster of three nodes: on each an asker; `web` spread over all, `steady` on the first two.
pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    /// How long each fault goes on.
    pub(crate) length: Duration,
}

/// Requests of all kinds at once.
pub(crate) struct Loads {
    pods: Vec<PodLoad>,
    outside: Vec<Outside>,
}

impl Lab {
    pub(crate) fn start() -> Lab {
        let seconds = std::env::var("RIPSTOP_CHURN").map_or(3, |text| text.parse().expect("seconds"));
        let ports = ["--service-node-port-range", "31000-31999"];
        let lab = Lab {
            cluster: Cluster::up_with("e2e-load", &Options::of("dual"), &ports),
            length: Duration::from_secs(seconds),
        };
        lab.cluster.wait_nodes("condition=Ready", WAIT);
        lab.apply(&lab.objects());
        let cluster = &lab.cluster;
        cluster
            .kubectl(&["rollout", "status", "--timeout=90s", "deployment/web"])
            .ok();
        cluster
            .kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"])
            .ok();
        for service in ["web", "steady"] {
            for socket in lab.balancer(service) {
                eventually(WAIT, || ask(socket));
            }
        }
        lab
    }

    pub(crate) fn apply(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        self.cluster
            .kubectl_with(&["apply", "-f", "-"], &list.to_string())
            .ok();
    }

    fn objects(&self) -> Vec<Value> {
        let pod = |name: &str, labels: Value, node: &str| {
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": labels },
                "spec": { "nodeName": node, "containers": [server()] } })
        };
        let mut objects = vec![
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
                "spec": { "replicas": REPLICAS, "selector": { "matchLabels": { "app": "web" } },
                    "template": { "metadata": { "labels": { "app": "web", "in": "yes" } },
                        "spec": { "containers": [server()] } } } }),
            balancer("web", &json!({ "app": "web", "in": "yes" })),
            balancer("steady", &json!({ "app": "steady" })),
        ];
        for node in ["node-1", "node-2", "node-3"] {
            objects.push(pod(&asker(node), json!({ "app": "asker" }), node));
        }
        for node in ["node-1", "node-2"] {
            objects.push(pod(
                &format!("steady-on-{node}"),
                json!({ "app": "steady" }),
                node,
            ));
        }
        objects
    }

    /// Where the machine reaches a Service's load balancer: an address of each family.
    pub(crate) fn balancer(&self, service: &str) -> Vec<SocketAddr> {
        eventually(WAIT, || {
            let object = self.cluster.get(&["service", service]);
            let ingress = object["status"]["loadBalancer"]["ingress"].as_array();
            let ips: Vec<IpAddr> = ingress
                .into_iter()
                .flatten()
                .filter_map(|one| one["ip"].as_str()?.parse().ok())
                .collect();
            let sockets = ips.iter().map(|ip| SocketAddr::new(*ip, 80)).collect();
            (ips.len() == 2)
                .then_some(sockets)
                .ok_or_else(|| object.to_string())
        })
    }

    /// Its port on a node, at an address of each family.
    pub(crate) fn node_ports(&self, node: &str, service: &str) -> Vec<SocketAddr> {
        let port = self.cluster.get(&["service", service])["spec"]["ports"][0]["nodePort"].as_u64();
        let port = u16::try_from(port.expect("a port")).expect("a port");
        let addresses = self.node_addresses(node).into_iter();
        addresses.map(|address| SocketAddr::new(address, port)).collect()
    }

    fn node_port(&self, node: &str, service: &str) -> SocketAddr {
        self.node_ports(node, service)[0]
    }

    fn node_addresses(&self, node: &str) -> Vec<IpAddr> {
        let node = self.cluster.get(&["node", node]);
        let all = node["status"]["addresses"].as_array().expect("a list").iter();
        let own = all.filter(|one| one["type"] == "InternalIP");
        own.map(|one| one["address"].as_str().and_then(|ip| ip.parse().ok()))
            .map(|address| address.expect("the API's addresses are right"))
            .collect()
    }

    pub(crate) fn node_address(&self, node: &str) -> IpAddr {
        self.node_addresses(node)[0]
    }

    pub(crate) fn ports_are_as_asked_for(&self) {
        let port = self.node_port("node-1", "web").port();
        assert!((31_000..32_000).contains(&port), "{port}");
        let outside = [
            "create",
            "service",
            "nodeport",
            "x",
            "--tcp=80",
            "--node-port=30000",
        ];
        let refusal = self.cluster.kubectl(&outside).refused();
        assert!(
            refusal.contains("The range of valid ports is 31000-31999"),
            "{refusal}"
        );
    }

    /// Requests to `web`: from a pod of each node by its name, from the machine by its load balancer's addresses
    /// and by a node's port.
    pub(crate) fn load(&self) -> Loads {
        self.patient_load(PATIENCE)
    }

    /// The same, where a request of a pod's may take that long.
    pub(crate) fn patient_load(&self, patience: Duration) -> Loads {
        let pods = ["node-1", "node-2", "node-3"]
            .iter()
            .map(|node| PodLoad::start(&self.cluster, &asker(node), "web", "http://web/", patience))
            .collect();
        let port = self.node_port("node-2", "web");
        let sockets = self.balancer("web").into_iter().chain([port]);
        Loads {
            pods,
            outside: sockets.map(Outside::start).collect(),
        }
    }

    /// Kills one of the cluster's processes, if it runs.
    pub(crate) fn kill(&self, process: &str, signal: &str) -> bool {
        let status = self.cluster.ripstop(&["status", "-o", "json"]).ok();
        let status: Value = serde_json::from_str(&status).expect("JSON");
        let processes = status["processes"].as_array().expect("a list");
        let found = processes.iter().find(|one| one["name"] == process);
        let Some(pid) = found.and_then(|one| one["pid"].as_i64()) else {
            return false;
        };
        let killed = Command::new("kill").args([signal, &pid.to_string()]).status();
        // It may have ended by itself since.
        killed.expect("kill runs").success() || !Path::new(&format!("/proc/{pid}")).exists()
    }
}

impl Loads {
    /// Ends them, and says what became of their requests: those of pods, and those from the machine.
    pub(crate) fn finish(self, lab: &Lab) -> (Tally, Tally) {
        let (mut inside, mut outside) = (Tally::default(), Tally::default());
        for load in self.outside {
            outside.add(load.finish());
        }
        for load in self.pods {
            inside.add(load.finish(&lab.cluster));
        }
        (inside, outside)
    }

    /// Ends them; none of their requests may have failed.
    #[track_caller]
    pub(crate) fn assert_whole(self, lab: &Lab, what: &str) {
        let (inside, outside) = self.finish(lab);
        println!(
            "{what}: {} and {} requests, {} and {} failed",
            inside.answered,
            outside.answered,
            inside.failed(),
            outside.failed()
        );
        inside.assert_whole(&format!("{what}, from pods"));
        outside.assert_whole(&format!("{what}, from the machine"));
    }
}

/// The pod on a node that asks.
pub(crate) fn asker(node: &str) -> String {
    format!("asker-on-{node}")
}

/// A container that answers, and drains when it is to end.
fn server() -> Value {
    json!({ "name": "a", "image": IMAGE,
        "readinessProbe": { "httpGet": { "path": "/readyz", "port": 8080 }, "periodSeconds": 1 } })
}

fn balancer(name: &str, selector: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack", "selector": selector,
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] } })
}
