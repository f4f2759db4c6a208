//! A cluster for one test.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::command::{Outcome, eventually, run};

/// What a test asks of its cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Number of nodes; 3 when zero.
    pub nodes: u32,
    /// The value of `--ip-family`, if it is given.
    pub ip_family: Option<&'static str>,
}

impl Options {
    /// A cluster of these families.
    pub fn of(ip_family: &'static str) -> Options {
        Options {
            ip_family: Some(ip_family),
            ..Options::default()
        }
    }
}

/// A running cluster, taken out when dropped.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    binary: PathBuf,
}

impl Cluster {
    /// Starts a cluster and waits until `ripstop up` says that it is there.
    ///
    /// # Panics
    /// If it doesn't start.
    #[track_caller]
    pub fn up(name: &str, options: &Options) -> Cluster {
        Cluster::up_with(name, options, &[])
    }

    /// As [`Cluster::up`], with more arguments for `ripstop up`.
    ///
    /// # Panics
    /// If it doesn't start.
    #[track_caller]
    pub fn up_with(name: &str, options: &Options, more: &[&str]) -> Cluster {
        let cluster = Cluster {
            name: name.to_owned(),
            binary: binary(),
        };
        // A test that was killed may have left one of this name.
        cluster.ripstop(&["down"]).ok();
        let nodes = if options.nodes == 0 { 3 } else { options.nodes }.to_string();
        let mut args = vec!["up", "--no-kubeconfig", "--nodes", &nodes];
        args.extend(
            options
                .ip_family
                .iter()
                .flat_map(|family| ["--ip-family", family]),
        );
        args.extend(more);
        cluster.ripstop(&args).ok();
        cluster
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program, for what isn't about this cluster by name.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Where the cluster keeps what lasts.
    pub fn data_dir(&self) -> PathBuf {
        Path::new("/var/lib/ripstop").join(&self.name)
    }

    /// Runs `ripstop ARGS --name NAME`.
    pub fn ripstop(&self, args: &[&str]) -> Outcome {
        run(
            Command::new(&self.binary).args(args).args(["--name", &self.name]),
            None,
        )
    }

    /// Runs `ripstop ARGS` with nothing that leads to the cluster, as on one of its nodes.
    pub fn on_node(&self, args: &[&str]) -> Outcome {
        run(Command::new(&self.binary).args(args), None)
    }

    /// Runs `ripstop ARGS` with this cluster's kubeconfig: a command that explains.
    pub fn explain(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(&self.binary);
        command.args(args).arg("--kubeconfig");
        run(command.arg(self.data_dir().join("kubeconfig")), None)
    }

    /// Runs `kubectl ARGS` against this cluster.
    pub fn kubectl(&self, args: &[&str]) -> Outcome {
        run(&mut self.kubectl_command(args), None)
    }

    /// Runs `kubectl ARGS` with `input` on its standard input, as in `kubectl apply -f -`.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Outcome {
        run(&mut self.kubectl_command(args), Some(input))
    }

    /// A `kubectl` that is yet to be started.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let program = std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(self.data_dir().join("kubeconfig"))
            .args(args);
        command
    }

    /// An object or a list, parsed.
    ///
    /// # Panics
    /// If kubectl fails.
    #[track_caller]
    pub fn get(&self, args: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], args].concat()).ok();
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// A Deployment of the toolbox image, all its pods available.
    ///
    /// # Panics
    /// If it isn't available in time.
    #[track_caller]
    pub fn deployment(&self, name: &str, replicas: u32) {
        let replicas = format!("--replicas={replicas}");
        let image = "--image=localhost/ripstop/toolbox:1";
        self.kubectl(&["create", "deployment", name, image, &replicas])
            .ok();
        self.kubectl(&[
            "rollout",
            "status",
            "--timeout=60s",
            &format!("deployment/{name}"),
        ])
        .ok();
    }

    /// Name, address and node of each pod of a Deployment made by [`Cluster::deployment`].
    #[track_caller]
    pub fn pods(&self, app: &str) -> Vec<Pod> {
        let list = self.get(&["pods", "-l", &format!("app={app}")]);
        let items = list["items"].as_array().expect("a list has items");
        items
            .iter()
            .filter(|p| p["metadata"]["deletionTimestamp"].is_null())
            .map(Pod::read)
            .collect()
    }

    /// Runs a command in a pod.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Outcome {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }

    /// Waits until every node is as `want` says.
    #[track_caller]
    pub fn wait_nodes(&self, condition: &str, limit: Duration) {
        let wait = format!("--timeout={}s", limit.as_secs());
        self.kubectl(&["wait", "--all", &format!("--for={condition}"), &wait, "nodes"])
            .ok();
    }

    /// The process id of one of the cluster's processes, as `ripstop status -o json` tells it.
    #[track_caller]
    pub fn pid(&self, process: &str) -> i32 {
        eventually(Duration::from_secs(10), || {
            let status: Value = serde_json::from_str(&self.ripstop(&["status", "-o", "json"]).ok())
                .map_err(|error| error.to_string())?;
            let processes = status["processes"].as_array().ok_or("no processes")?;
            let found = processes.iter().find(|p| p["name"] == process);
            found
                .and_then(|p| p["pid"].as_i64())
                .and_then(|pid| i32::try_from(pid).ok())
                .ok_or_else(|| format!("no running {process} in {status}"))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let outcome = self.ripstop(&["down"]);
        if outcome.code != Some(0) && !std::thread::panicking() {
            panic!("down failed: {}{}", outcome.stdout, outcome.stderr);
        }
    }
}

/// A pod as the tests need it.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// Address, of the cluster's preferred family.
    pub ip: String,
    /// All its addresses, one a family.
    pub ips: Vec<IpAddr>,
    /// Node.
    pub node: String,
}

impl Pod {
    /// A URL at each of its addresses, with the address of that family that `client` has.
    pub fn urls(&self, port: u16, path: &str, client: &Pod) -> Vec<(String, IpAddr)> {
        let url = |ip: &IpAddr| {
            let own = client.ips.iter().find(|own| own.is_ipv4() == ip.is_ipv4());
            let own = own.expect("each pod has an address of each of the cluster's families");
            (format!("http://{}{path}", SocketAddr::new(*ip, port)), *own)
        };
        self.ips.iter().map(url).collect()
    }

    /// What the API says about one.
    pub fn read(object: &Value) -> Pod {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let ips = object.pointer("/status/podIPs").and_then(Value::as_array);
        let ips = ips.into_iter().flatten();
        Pod {
            name: text("/metadata/name"),
            ip: text("/status/podIP"),
            ips: ips.filter_map(|ip| ip["ip"].as_str()?.parse().ok()).collect(),
            node: text("/spec/nodeName"),
        }
    }
}

/// The archive of the images that come with the binary.
pub fn toolbox_archive() -> PathBuf {
    binary().with_file_name("toolbox.tar")
}

fn binary() -> PathBuf {
    let path = std::env::var_os("RIPSTOP_BIN")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/ripstop"));
    assert!(
        path.exists(),
        "{} is missing: run `make build`, or set RIPSTOP_BIN",
        path.display()
    );
    path
}
