//! The same without Ripstop: namespaces joined by routed veth pairs, nothing
//! else. What pod-to-pod traffic is compared with.
//!
//! ```text
//! pod ── veth ── node ── veth ── pod            one node
//! pod ── veth ── node ── switch ── node ── veth ── pod     two nodes
//! ```
//!
//! The namespaces have no names: they end with this process.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use kernel::link::VethEnd;
use kernel::route::Route;
use kernel::{NetNs, Netlink, sysctl};

/// Two pods, and the namespaces between them.
pub(crate) struct Plain {
    client: NetNs,
    server: NetNs,
    address: Ipv4Addr,
    /// Kept: a namespace without processes lives as long as its handles.
    _between: Vec<NetNs>,
}

impl Plain {
    /// Two pods on one node.
    pub(crate) async fn one_node() -> Result<Self> {
        let node = node()?;
        let (client, _) = pod(&node, 1).await?;
        let (server, address) = pod(&node, 2).await?;
        Ok(Self {
            client,
            server,
            address,
            _between: vec![node],
        })
    }

    /// Two pods on two nodes, which a bridge joins as it does a cluster's.
    pub(crate) async fn two_nodes() -> Result<Self> {
        let switch = NetNs::anonymous()?;
        let links = Netlink::open(&switch)?;
        links.add_bridge("br0").await?;
        let bridge = links.link_index("br0").await?;
        links.set_up("br0").await?;
        let nodes = [node()?, node()?];
        for (number, node) in (1..).zip(&nodes) {
            let near = VethEnd {
                name: &format!("port{number}"),
                master: Some(bridge),
                up: true,
                ..VethEnd::default()
            };
            let address = Ipv4Addr::new(10, 251, 0, number);
            plug(&links, &near, node, "eth0", address).await?;
        }
        let (client, _) = pod(&nodes[0], 1).await?;
        let (server, address) = pod(&nodes[1], 2).await?;
        for (number, node) in (1..).zip(&nodes) {
            let links = Netlink::open(node)?;
            let other = 3 - number;
            let to = net(Ipv4Addr::new(10, 250, other, 0));
            let by = Ipv4Addr::new(10, 251, 0, other);
            let link = links.link_index("eth0").await?;
            links.replace_route(&Route::via(to, by.into(), link)).await?;
        }
        let between = nodes.into_iter().chain([switch]).collect();
        Ok(Self {
            client,
            server,
            address,
            _between: between,
        })
    }

    /// Starts the toolbox's server in one pod.
    pub(crate) fn serve(&self, toolbox: &Path) -> Result<Server> {
        let mut command = Command::new(toolbox);
        command
            .args(["serve", "--quiet", "--drain", "0s"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = self.server.run(|| command.spawn())?;
        let child = child.with_context(|| format!("run {}", toolbox.display()))?;
        Ok(Server(child))
    }

    /// Runs the toolbox in the other pod, to its end.
    pub(crate) fn ask(&self, toolbox: &Path, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(toolbox);
        let output = self.client.run(|| command.args(words).output())?;
        output.with_context(|| format!("run {}", toolbox.display()))
    }

    /// Where the server listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:8080/", self.address)
    }
}

/// A server, ended when dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn node() -> Result<NetNs> {
    let node = NetNs::anonymous()?;
    sysctl::write_in(&node, &[("net/ipv4/ip_forward", "1")])?;
    Ok(node)
}

/// A pod with a /24 of its own, so that its node routes.
async fn pod(node: &NetNs, number: u8) -> Result<(NetNs, Ipv4Addr)> {
    let pod = NetNs::anonymous()?;
    let (gateway, address) = (
        Ipv4Addr::new(10, 250, number, 1),
        Ipv4Addr::new(10, 250, number, 2),
    );
    let links = Netlink::open(node)?;
    let name = format!("pod{number}");
    let near = VethEnd {
        name: &name,
        up: true,
        ..VethEnd::default()
    };
    plug(&links, &near, &pod, "eth0", address).await?;
    let link = links.link_index(&name).await?;
    links.add_address(link, net(gateway)).await?;
    let inside = Netlink::open(&pod)?;
    inside.set_up("lo").await?;
    let link = inside.link_index("eth0").await?;
    inside
        .replace_route(&Route::default_via(gateway.into(), link))
        .await?;
    Ok((pod, address))
}

/// Joins a namespace to another by a veth pair, and gives its end an address.
async fn plug(
    links: &Netlink,
    near: &VethEnd<'_>,
    into: &NetNs,
    name: &str,
    address: Ipv4Addr,
) -> Result<()> {
    let far = VethEnd {
        name,
        netns: Some(into),
        ..VethEnd::default()
    };
    links.add_veth(near, &far).await?;
    let inside = Netlink::open(into)?;
    inside.set_up(name).await?;
    let link = inside.link_index(name).await?;
    inside.add_address(link, net(address)).await?;
    Ok(())
}

fn net(address: Ipv4Addr) -> IpNet {
    let net = Ipv4Net::new(address, 24).expect("24 is a prefix length");
    IpNet::V4(net)
}

/// Where `make build` leaves the static toolbox: `../TRIPLE/release/toolbox`
/// from `target/release`.
pub(crate) fn toolbox_beside(program: &Path) -> Result<PathBuf> {
    let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let folders = std::fs::read_dir(target).with_context(|| target.display().to_string())?;
    let mut files = folders
        .filter_map(Result::ok)
        .filter(|folder| folder.file_name().to_string_lossy().contains("-linux-"))
        .map(|folder| folder.path().join("release/toolbox"));
    let found = files.find(|file| file.is_file());
    found.context("there is no static toolbox: run `make build`, or name it with --toolbox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_pods_reach_each_other_on_one_node_and_across_two() {
        for plain in [
            Plain::one_node().await.unwrap(),
            Plain::two_nodes().await.unwrap(),
        ] {
            let at = (plain.address, 0);
            let listener = plain
                .server
                .run(|| std::net::TcpListener::bind(at))
                .unwrap()
                .unwrap();
            let at = listener.local_addr().unwrap();
            let limit = std::time::Duration::from_secs(5);
            let stream = plain
                .client
                .run(|| std::net::TcpStream::connect_timeout(&at, limit));
            stream.unwrap().unwrap();
        }
    }
}
