//! `ripstop agent`: a node's agent.

use std::path::Path;

use agent::AgentConfig;

use crate::failure::Failure;
use crate::server::until_signalled;

pub(crate) async fn run(config: &Path) -> Result<(), Failure> {
    let config = AgentConfig::read(config)?;
    Ok(agent::run(config, until_signalled()?).await?)
}

#[cfg(test)]
mod tests {
    use supervisor::cluster::Programs;
    use supervisor::network::{IpFamily, Ranges, Wish};
    use supervisor::{Cluster, Paths, agent_config};

    use super::*;

    #[test]
    fn the_agent_understands_what_the_supervisor_writes() {
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
        let cluster = Cluster {
            non_masquerade: vec!["192.168.0.0/16".parse().expect("a range")],
            pod_network: model::PodNetworkMode::Vxlan,
            ..Cluster::new(name, 3, ranges, programs).expect("fits")
        };
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = agent_config::render(&cluster, &paths, &cluster.nodes[1]);
        std::fs::write(file.path(), text).expect("written");
        let config = AgentConfig::read(file.path()).expect("understood");
        assert_eq!(config.node_name, "node-2");
        assert_eq!(config.network.non_masquerade, cluster.non_masquerade);
        assert_eq!(config.network.pod_network, cluster.pod_network);
        assert_eq!(config.socket(), paths.node("node-2").cni_socket());
        let kubelet = config.kubelet.expect("an embedded node has one");
        let listen: Vec<_> = kubelet.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["172.30.0.12:10250", "[fd00:172:30::12]:10250"]);
        assert_eq!(kubelet.cgroup_root, "/ripstop/local/node-2");
    }
}
