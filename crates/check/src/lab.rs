//! Where can be asked from, and what answers there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use path_mtu::Target;
use serde::Deserialize;

use crate::outside::OutsideProbe;
use crate::paths::{Measured, Path};
use crate::pods::Ports;
use crate::report::Row;
use crate::services::Services;
use crate::shell::Shell;

/// A pod that runs: it answers, and commands run in it.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(crate) pod: String,
    pub(crate) node: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Ports,
    /// A port of its node that leads to its HTTP server.
    pub(crate) host_port: Option<u16>,
}

/// A node and the pods on it; those that didn't start are missing.
pub(crate) struct Place {
    pub(crate) node: String,
    /// The node's own.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its blocks of pod addresses.
    pub(crate) pod_cidrs: Vec<IpNet>,
    pub(crate) pod: Option<Spot>,
    /// A second pod, on the first node.
    pub(crate) neighbour: Option<Spot>,
    /// A pod that policies isolate, on the first node.
    pub(crate) isolated: Option<Spot>,
    /// A pod in the node's own network.
    pub(crate) host: Option<Spot>,
}

/// Everything that a check may use.
pub(crate) struct Lab {
    pub(crate) places: Vec<Place>,
    pub(crate) shell: Box<dyn Shell>,
    pub(crate) outside: Vec<OutsideProbe>,
    pub(crate) cluster: Option<String>,
    /// Load balancers' addresses: whichever node announces one has it beside its own.
    pub(crate) balancers: BTreeSet<IpAddr>,
    /// The Services that lead to the pods, or why there are none.
    pub(crate) services: Result<Services, String>,
    /// Whether there are the policies that isolate a pod, or why not.
    pub(crate) policies: Result<(), String>,
    /// How soon Services and policies must be in force on all nodes.
    pub(crate) patience: Duration,
    /// The paths between nodes, where they are known already.
    pub(crate) paths: Vec<Path>,
    /// All nodes and API servers by name, for pings to those that have no pod.
    pub(crate) pinged: Vec<(String, Vec<IpAddr>)>,
    /// A name outside the cluster that is to be found in pods, or why none can be asked for.
    pub(crate) outside_name: Result<String, String>,
    /// What deploying has found already.
    pub(crate) rows: Vec<Row>,
}

/// What `toolbox get --json` prints about a URL.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) ms: f64,
    #[serde(default)]
    pub(crate) body: serde_json::Value,
    pub(crate) error: Option<String>,
    /// Which kind of error, as the toolbox ends with it.
    pub(crate) code: Option<u8>,
}

/// What `toolbox download --json` and `toolbox udp --json` print.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Transfer {
    #[serde(default)]
    pub(crate) bytes: u64,
    pub(crate) error: Option<String>,
}

impl Spot {
    /// Its HTTP server at one of its addresses.
    pub(crate) fn url(&self, address: IpAddr, target: &str) -> String {
        format!("http://{}{target}", SocketAddr::new(address, self.ports.http))
    }
}

impl Answer {
    /// The client's address as the server saw it, or why there is none.
    pub(crate) fn seen(&self) -> Result<IpAddr, String> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.status != Some(200) {
            return Err(format!("HTTP status {}", self.status.unwrap_or_default()));
        }
        let address = self.body["client_ip"].as_str().and_then(|text| text.parse().ok());
        address.ok_or_else(|| "something else than the toolbox answered".to_owned())
    }
}

impl Lab {
    /// Asks for URLs from a spot, all at once; answers come in their order.
    pub(crate) async fn get(&self, from: &Spot, urls: &[String]) -> Result<Vec<Answer>, String> {
        self.get_within("3s", from, urls).await
    }

    /// The same, but each answer is waited for that long.
    pub(crate) async fn get_within(
        &self,
        limit: &str,
        from: &Spot,
        urls: &[String],
    ) -> Result<Vec<Answer>, String> {
        let words = ["toolbox", "get", "--json", "--parallel", "--timeout", limit];
        let command = words.iter().map(ToString::to_string).chain(urls.iter().cloned());
        self.lines(from, command.collect(), urls.len()).await
    }

    /// Fetches 1 MiB from a server, then has the largest datagram that fits one
    /// packet echoed.
    pub(crate) async fn transfer(
        &self,
        from: &Spot,
        to: &Spot,
        address: IpAddr,
    ) -> Result<(Transfer, Transfer), String> {
        let script = "toolbox download --json --verify --stall 3s --size 1MiB \"$1\"; \
                      toolbox udp --json --size mtu \"$2\" \"$3\"";
        let (url, echo) = (to.url(address, "/?size=1MiB"), to.ports.echo.to_string());
        let words = ["sh", "-c", script, "sh", &url, &address.to_string(), &echo];
        let command = words.iter().map(ToString::to_string).collect();
        let mut lines = self.lines(from, command, 2).await?.into_iter();
        let both = lines.next().zip(lines.next());
        Ok(both.expect("`lines` gives as many as were asked for"))
    }

    /// Measures what the paths to servers that echo, or to addresses, carry.
    pub(crate) async fn mtu(&self, from: &Spot, to: &[Target]) -> Result<Vec<Measured>, String> {
        let words = ["toolbox", "mtu", "--json"].map(str::to_owned);
        let command = words.into_iter().chain(to.iter().map(ToString::to_string));
        self.lines(from, command.collect(), to.len()).await
    }

    /// A command's output as so many lines of JSON.
    async fn lines<T: for<'a> Deserialize<'a>>(
        &self,
        from: &Spot,
        command: Vec<String>,
        count: usize,
    ) -> Result<Vec<T>, String> {
        let output = self.shell.exec(&from.pod, command).await?;
        let lines = output.stdout.lines().map(serde_json::from_str);
        match lines.collect::<Result<Vec<T>, _>>() {
            Ok(lines) if lines.len() == count => Ok(lines),
            _ => {
                let said = output.stderr.lines().last().unwrap_or("nothing");
                Err(format!(
                    "toolbox in {} ended with {} and said: {said}",
                    from.pod, output.code
                ))
            }
        }
    }
}
