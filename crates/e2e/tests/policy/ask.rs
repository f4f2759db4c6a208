//! Asking from pods, each question by a connection of its own, and `ripstop trace` the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use e2e::{Cluster, Pod, eventually};

use crate::said::{By, Question};
use crate::server::Server;

/// How long a policy may take to be in force, and a pod to run.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// A pod that asks, and whether an answer is to come.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    namespace: String,
    pod: String,
    /// Commands of the toolbox image: each ends with 0 if there was an answer, else with anything.
    commands: Vec<String>,
    question: Question,
}

/// `NAMESPACE/POD`.
fn split(name: &str) -> (String, String) {
    let (namespace, pod) = name.split_once('/').expect("NAMESPACE/POD");
    (namespace.to_owned(), pod.to_owned())
}

/// `NAMESPACE/pod/NAME` of `NAMESPACE/NAME`.
fn traced(name: &str) -> String {
    name.replace('/', "/pod/")
}

impl Ask {
    /// Commands in a pod; whom they are for and on which port, as `ripstop trace` has it.
    fn new(from: &str, commands: Vec<String>, [to, port]: [&str; 2], by: By) -> Ask {
        let (namespace, pod) = split(from);
        Ask {
            namespace,
            pod,
            commands,
            question: Question::new(&traced(from), to, port, by),
        }
    }

    /// A connection to an address.
    pub(crate) fn address(from: &str, to: IpAddr, port: u16, by: By) -> Ask {
        Ask::named(from, &to.to_string(), to, port, by)
    }

    /// A connection to an address that has a name.
    pub(crate) fn named(from: &str, name: &str, to: IpAddr, port: u16, by: By) -> Ask {
        Ask::new(from, vec![connect(to, port)], [name, &format!("{port}/tcp")], by)
    }

    /// A name of the cluster.
    pub(crate) fn dns(from: &str, by: By) -> Ask {
        let lookup = "timeout 2 nslookup kubernetes.default.svc.cluster.local".to_owned();
        Ask::new(from, vec![lookup], ["kube-dns.kube-system", "53/udp"], by)
    }
}

fn connect(to: IpAddr, port: u16) -> String {
    format!("toolbox tcp --timeout 1s {to} {port}")
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
        let words = ["wait", "--for=condition=Ready", "--timeout=60s", "pods", "--all"];
        self.cluster
            .kubectl(&[&["-n", namespace], &words[..]].concat())
            .ok();
    }

    /// A pod that runs.
    pub(crate) fn pod(&self, name: &str) -> Pod {
        let (namespace, pod) = split(name);
        Pod::read(&self.cluster.get(&["-n", &namespace, "pod", &pod]))
    }

    /// Connections to a pod, at each of its addresses.
    pub(crate) fn tcp(&self, from: &str, to: &str, port: u16, by: By) -> Ask {
        let ips = self.pod(to).ips.into_iter();
        let commands = ips.map(|ip| connect(ip, port)).collect();
        Ask::new(from, commands, [&traced(to), &format!("{port}/tcp")], by)
    }

    /// Datagrams that are echoed, at each of its addresses.
    pub(crate) fn udp(&self, from: &str, to: &str, port: u16, by: By) -> Ask {
        let ips = self.pod(to).ips.into_iter();
        let command = |ip| format!("toolbox udp --timeout 400ms --tries 3 {ip} {port} hello");
        let commands = ips.map(command).collect();
        Ask::new(from, commands, [&traced(to), &format!("{port}/udp")], by)
    }

    /// Asks until everything is as it's to be; then `ripstop trace` has to say the same.
    #[track_caller]
    pub(crate) fn expect(&self, asks: impl IntoIterator<Item = Ask>) {
        let mut by_pod: BTreeMap<(String, String), Vec<Ask>> = BTreeMap::new();
        for ask in asks {
            by_pod
                .entry((ask.namespace.clone(), ask.pod.clone()))
                .or_default()
                .push(ask);
        }
        let of_each = |ask: &(dyn Fn(&[Ask]) -> Vec<String> + Sync)| {
            let wrong = thread::scope(|scope| {
                let asking: Vec<_> = by_pod.values().map(|asks| scope.spawn(|| ask(asks))).collect();
                let answers = asking
                    .into_iter()
                    .map(|thread| thread.join().expect("it doesn't panic"));
                answers.collect::<Vec<_>>().concat()
            });
            match wrong.is_empty() {
                true => Ok(()),
                false => Err(wrong.join("\n")),
            }
        };
        eventually(WAIT, || of_each(&|asks| self.ask(asks)));
        let traces = |asks: &[Ask]| {
            let answers = asks.iter().map(|ask| ask.question.answer(&self.cluster));
            answers.filter_map(Result::err).collect()
        };
        if let Err(wrong) = of_each(&traces) {
            panic!("connections are as they should be, and traces aren't:\n{wrong}");
        }
    }

    /// All asks of one pod at once; says which of them are wrong.
    fn ask(&self, asks: &[Ask]) -> Vec<String> {
        let commands = asks.iter().flat_map(|ask| {
            let allowed = ask.question.by.allows();
            ask.commands.iter().map(move |command| (command, allowed))
        });
        let commands: Vec<_> = commands.collect();
        let lines = commands.iter().enumerate();
        let lines = lines.map(|(n, (command, _))| format!("({command} >/dev/null 2>&1; echo {n} $?) &\n"));
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
        let wrong =
            commands
                .iter()
                .enumerate()
                .filter_map(|(n, (command, allowed))| match answered.get(&n) {
                    Some(answered) if answered == allowed => None,
                    Some(_) if *allowed => Some(format!("{namespace}/{pod}: no answer: {command}")),
                    Some(_) => Some(format!("{namespace}/{pod}: an answer: {command}")),
                    None => Some(format!("{namespace}/{pod}: {}: {command}", out.stderr)),
                });
        wrong.collect()
    }
}
