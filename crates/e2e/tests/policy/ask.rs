//! Asking from pods, each question by a connection of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use e2e::{Cluster, Pod, eventually};
use serde_json::Value;

/// How long a policy may take to be in force, and a pod to run.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// Who asks, for what, and whether an answer is to come.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    namespace: String,
    pod: String,
    /// A command of the toolbox image: it ends with 0 if there was an answer, else with anything.
    command: String,
    allowed: bool,
}

/// `NAMESPACE/POD`.
fn split(name: &str) -> (String, String) {
    let (namespace, pod) = name.split_once('/').expect("NAMESPACE/POD");
    (namespace.to_owned(), pod.to_owned())
}

impl Ask {
    pub(crate) fn command(from: &str, command: impl Into<String>, allowed: bool) -> Ask {
        let (namespace, pod) = split(from);
        Ask {
            namespace,
            pod,
            command: command.into(),
            allowed,
        }
    }

    /// A connection to an address.
    pub(crate) fn address(from: &str, to: IpAddr, port: u16, allowed: bool) -> Ask {
        Ask::command(from, format!("toolbox tcp --timeout 1s {to} {port}"), allowed)
    }

    /// A name of the cluster.
    pub(crate) fn dns(from: &str, allowed: bool) -> Ask {
        let name = "kubernetes.default.svc.cluster.local";
        Ask::command(from, format!("timeout 2 nslookup {name}"), allowed)
    }
}

/// A cluster, and the pods that were made in it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
}

impl World {
    pub(crate) fn apply(&self, manifest: &str) {
        self.cluster.kubectl_with(&["apply", "-f", "-"], manifest).ok();
    }

    /// Makes a namespace with these pods, and waits until they run.
    pub(crate) fn pods(&self, namespace: &str, pods: &[Server]) {
        let mut manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
        for pod in pods {
            manifest.push_str("---\n");
            manifest.push_str(&pod.manifest(namespace));
        }
        self.apply(&manifest);
        self.cluster
            .kubectl(&[
                "-n",
                namespace,
                "wait",
                "--for=condition=Ready",
                "--timeout=60s",
                "pods",
                "--all",
            ])
            .ok();
    }

    /// A pod that runs.
    pub(crate) fn pod(&self, name: &str) -> Pod {
        let (namespace, pod) = split(name);
        Pod::read(&self.cluster.get(&["-n", &namespace, "pod", &pod]))
    }

    /// Connections to a pod, at each of its addresses.
    pub(crate) fn tcp(&self, from: &str, to: &str, port: u16, allowed: bool) -> Vec<Ask> {
        let ips = self.pod(to).ips.into_iter();
        ips.map(|ip| Ask::address(from, ip, port, allowed)).collect()
    }

    /// Datagrams that are echoed, at each of its addresses.
    pub(crate) fn udp(&self, from: &str, to: &str, port: u16, allowed: bool) -> Vec<Ask> {
        let ips = self.pod(to).ips.into_iter();
        let command = |ip| format!("toolbox udp --timeout 400ms --tries 3 {ip} {port} hello");
        ips.map(|ip| Ask::command(from, command(ip), allowed)).collect()
    }

    /// Asks until everything is as it's to be.
    #[track_caller]
    pub(crate) fn expect(&self, asks: Vec<Ask>) {
        let mut by_pod: BTreeMap<(String, String), Vec<Ask>> = BTreeMap::new();
        for ask in asks {
            by_pod
                .entry((ask.namespace.clone(), ask.pod.clone()))
                .or_default()
                .push(ask);
        }
        eventually(WAIT, || {
            let wrong = thread::scope(|scope| {
                let asking: Vec<_> = by_pod
                    .values()
                    .map(|asks| scope.spawn(|| self.ask(asks)))
                    .collect();
                let answers = asking
                    .into_iter()
                    .map(|thread| thread.join().expect("it doesn't panic"));
                answers.collect::<Vec<_>>().concat()
            });
            if wrong.is_empty() {
                Ok(())
            } else {
                Err(wrong.join("\n"))
            }
        });
    }

    /// All asks of one pod at once; says which of them are wrong.
    fn ask(&self, asks: &[Ask]) -> Vec<String> {
        let lines = asks.iter().enumerate();
        let lines = lines.map(|(n, ask)| format!("({} >/dev/null 2>&1; echo {n} $?) &\n", ask.command));
        let script = format!("{}wait", lines.collect::<String>());
        let (namespace, pod) = (&asks[0].namespace, &asks[0].pod);
        let out = self
            .cluster
            .kubectl(&["-n", namespace, "exec", pod, "--", "sh", "-c", &script]);
        let answered: BTreeMap<usize, bool> = out
            .stdout
            .lines()
            .filter_map(|line| {
                let (n, code) = line.split_once(' ')?;
                Some((n.parse().ok()?, code == "0"))
            })
            .collect();
        let wrong = asks.iter().enumerate().filter_map(|(n, ask)| {
            let Ask { command, allowed, .. } = ask;
            match answered.get(&n) {
                Some(answered) if answered == allowed => None,
                Some(_) if *allowed => Some(format!("{namespace}/{pod}: no answer: {command}")),
                Some(_) => Some(format!("{namespace}/{pod}: an answer: {command}")),
                None => Some(format!("{namespace}/{pod}: {}: {command}", out.stderr)),
            }
        });
        wrong.collect()
    }
}

/// A pod that answers HTTP and echoes.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    name: &'static str,
    node: &'static str,
    labels: &'static str,
    http: u16,
    echo: u16,
    /// More of its spec, as YAML's flow style has it, beginning with a comma.
    more: String,
}

impl Server {
    pub(crate) fn new(name: &'static str, node: &'static str, labels: &'static str) -> Server {
        Server {
            name,
            node,
            labels,
            http: 8080,
            echo: 9000,
            more: String::new(),
        }
    }

    pub(crate) fn http(self, http: u16) -> Server {
        Server { http, ..self }
    }

    pub(crate) fn echo(self, echo: u16) -> Server {
        Server { echo, ..self }
    }

    pub(crate) fn host_network(self) -> Server {
        let more = ", hostNetwork: true".to_owned();
        Server { more, ..self }
    }

    fn manifest(&self, namespace: &str) -> String {
        let Server {
            name,
            node,
            labels,
            http,
            echo,
            more,
        } = self;
        // The probe is the node's own, and passes whatever policies say.
        format!(
            "apiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n\
             spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, containers: [{{name: a, \
             image: 'localhost/ripstop/toolbox:1', \
             command: [toolbox, serve, --quiet, --http, '{http}', --echo, '{echo}'], \
             ports: [{{name: web, containerPort: {http}}}, {{name: echo, containerPort: {echo}}}, \
             {{name: echo-udp, containerPort: {echo}, protocol: UDP}}], \
             readinessProbe: {{httpGet: {{path: /readyz, port: {http}}}, periodSeconds: 1}}}}]{more}}}\n"
        )
    }
}

/// A field that is a text.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
