//! What a container's `runtimeConfig` asks of the network, checked: host ports and rates.

use cni::{Bandwidth, Code, Error, NetworkConfig, PortMapping};
use model::{HostPort, Limits, Protocol, Rate};

/// The rates that Kubernetes allows (`1k` to `1P`), in bits per second.
const RATES: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;

/// From here on a burst is a runtime's way to say that it has no opinion: containerd gives the
/// largest number of 32 bits.
const ANY_BURST: u64 = i32::MAX as u64;

/// What an attachment is to have beside its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) host_ports: Vec<HostPort>,
    pub(super) limits: Limits,
}

impl Wishes {
    /// Reads and checks them.
    pub(super) fn read(config: &NetworkConfig) -> Result<Wishes, Error> {
        let mut host_ports = Vec::new();
        for mapping in config.port_mappings()? {
            let port = host_port(&mapping)?;
            if !host_ports.contains(&port) {
                host_ports.push(port);
            }
        }
        for (index, port) in host_ports.iter().enumerate() {
            if let Some(other) = host_ports[..index].iter().find(|other| other.conflicts(port)) {
                return Err(invalid(format!(
                    "hostPort {port} leads to the pod's ports {} and {}: give each a hostPort of its own",
                    other.container_port, port.container_port
                )));
            }
        }
        Ok(Wishes {
            host_ports,
            limits: limits(config.bandwidth()?)?,
        })
    }
}

fn host_port(mapping: &PortMapping) -> Result<HostPort, Error> {
    let port = mapping.host_port;
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.name() == mapping.protocol)
        .ok_or_else(|| {
            invalid(format!(
                "hostPort {port} is of protocol {:?}: only tcp, udp and sctp have ports",
                mapping.protocol
            ))
        })?;
    if let Some(address) = mapping.host_ip.filter(|address| address.is_loopback())
        && protocol == Protocol::Sctp
    {
        return Err(invalid(format!(
            "hostPort {port} is of SCTP and to be on {address}, where only TCP and UDP reach a pod: \
             leave hostIP out, or give an address of the node's"
        )));
    }
    Ok(HostPort {
        protocol,
        host_ip: mapping.host_ip,
        host_port: port,
        container_port: mapping.container_port,
    })
}

fn limits(bandwidth: Bandwidth) -> Result<Limits, Error> {
    Ok(Limits {
        ingress: rate("ingress", bandwidth.ingress_rate, bandwidth.ingress_burst)?,
        egress: rate("egress", bandwidth.egress_rate, bandwidth.egress_burst)?,
    })
}

fn rate(direction: &str, bits: u64, burst: u64) -> Result<Option<Rate>, Error> {
    if bits == 0 {
        return Ok(None);
    }
    if !RATES.contains(&bits) {
        return Err(invalid(format!(
            "the pod's {direction} bandwidth is {bits} bits per second, and must be from 1k to 1P: \
             see its annotation kubernetes.io/{direction}-bandwidth"
        )));
    }
    let burst = Some(burst).filter(|burst| (1..ANY_BURST).contains(burst));
    Ok(Some(Rate { bits, burst }))
}

fn invalid(msg: String) -> Error {
    Error::new(Code::InvalidConfig, msg)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn read(runtime: Value) -> Result<Wishes, Error> {
        let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "t", "runtimeConfig": runtime});
        Wishes::read(&NetworkConfig::parse(config.to_string().as_bytes()).expect("JSON"))
    }

    #[test]
    fn what_containerd_says_is_understood() {
        let wishes = read(json!({
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
                {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "0.0.0.0"},
            ],
            "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": u32::MAX,
                          "egressRate": 1000, "egressBurst": 800_000},
        }))
        .expect("valid");
        let ports: Vec<String> = wishes.host_ports.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["8080/tcp", "53/udp on 0.0.0.0"]);
        let rate = |bits, burst| Some(Rate { bits, burst });
        assert_eq!(wishes.limits.ingress, rate(10_000_000, None));
        assert_eq!(wishes.limits.egress, rate(1000, Some(800_000)));
    }

    #[rstest]
    #[case::dccp(json!({"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "dccp"}]}), "dccp")]
    #[case::loopback(json!({"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "127.0.0.1", "protocol": "sctp"}]}), "leave hostIP out")]
    #[case::twice(json!({"portMappings": [{"hostPort": 1, "containerPort": 1}, {"hostPort": 1, "containerPort": 2, "hostIP": "10.0.0.1"}]}), "ports 1 and 2")]
    #[case::slow(json!({"bandwidth": {"ingressRate": 999}}), "kubernetes.io/ingress-bandwidth")]
    #[case::fast(json!({"bandwidth": {"egressRate": 1_000_000_000_000_001_u64}}), "from 1k to 1P")]
    fn what_cannot_be_is_refused_with_the_cure(#[case] runtime: Value, #[case] says: &str) {
        let error = read(runtime).expect_err("refused");
        assert_eq!(error.code, Code::InvalidConfig);
        assert!(error.msg.contains(says), "{error}");
    }
}
