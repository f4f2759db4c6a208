//! `ripstop dns`: a node's DNS.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use dns::forward::{Transport, Way};
use dns::{DnsConfig, Sockets};
use kernel::{NetNs, sockets};

use crate::failure::Failure;
use crate::server::until_signalled;

pub(crate) async fn run(config: &Path) -> Result<(), Failure> {
    let config = DnsConfig::read(config)?;
    // Those of whoever started it are there before it, and after it.
    let sockets = match sockets::inherited().context("the sockets that were given can't be used")? {
        Some(sockets) => sockets,
        None => sockets::open(&config.listen).context("can't answer questions there")?,
    };
    let sockets = Sockets::from_fds(sockets).context("the sockets that were given can't be used")?;
    let way = way(config.loopback_netns.as_deref())?;
    Ok(dns::run(config, sockets, way, until_signalled()?).await?)
}

/// Where servers on loopback are asked from.
fn way(netns: Option<&Path>) -> Result<Way, Failure> {
    let Some(path) = netns else {
        return Ok(Way::default());
    };
    let netns = NetNs::open(path).context("servers on the machine's loopback can't be asked")?;
    let open = move |server, transport| sockets::open_in(&netns, server, transport == Transport::Tcp);
    Ok(Way::to_loopback(Arc::new(open)))
}

#[cfg(test)]
mod tests {
    use supervisor::cluster::Programs;
    use supervisor::network::{IpFamily, Ranges, Wish};
    use supervisor::resolver::Resolver;
    use supervisor::{Cluster, Paths, dns_config};

    use super::*;

    #[test]
    fn the_dns_understands_what_the_supervisor_writes() {
        let name: supervisor::ClusterName = "local".parse().expect("valid");
        let paths = Paths::of(&name);
        let wish = Wish {
            ip_family: IpFamily::Dual,
            ..Wish::default()
        };
        let ranges = Ranges::choose(&wish, &[], 3).expect("free");
        let programs = Programs {
            ripstop: "/r".into(),
            cni: "/c".into(),
            images: "/i".into(),
            containerd: "/d".into(),
            ctr: "/t".into(),
            runc: "/u".into(),
        };
        let cluster = Cluster::new(name, 3, ranges, programs).expect("fits");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let read = |own: &str| {
            let resolver = Resolver::choose(own, None, &cluster.ranges);
            let text = dns_config::render(&cluster, &paths, &cluster.nodes[1], &resolver);
            std::fs::write(file.path(), text).expect("written");
            DnsConfig::read(file.path()).expect("understood")
        };
        let config = read("nameserver 127.0.0.1\n");
        assert_eq!(config.resolv_conf, paths.node("node-2").upstreams());
        let machine = config.loopback_netns.expect("the machine's");
        assert_eq!(
            NetNs::open(machine).expect("open"),
            NetNs::current().expect("open")
        );
        let config = read("nameserver 192.0.2.53\n");
        assert_eq!(config.resolv_conf, paths.node("node-2").resolv_conf());
        assert_eq!(config.loopback_netns, None);
        assert_eq!(config.node_name, "node-2");
        let texts = |list: &[std::net::SocketAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts(&config.listen),
            [
                "10.96.0.10:53",
                "[fd00:10:96::a]:53",
                "172.30.0.12:53",
                "[fd00:172:30::12]:53"
            ]
        );
        assert!(texts(&config.metrics).contains(&"127.0.0.1:9153".to_owned()));
        assert_eq!(config.cluster_ranges.len(), 4);
    }
}
