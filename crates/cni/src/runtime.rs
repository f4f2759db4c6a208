//! What the runtime says about one container under `runtimeConfig`: the capabilities that our
//! configuration declares, `portMappings` and `bandwidth`. Others' are passed over.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::config::NetworkConfig;
use crate::error::{Code, Error};

/// A port of the node that leads to the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// The node's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol in small letters.
    pub protocol: String,
    /// The node's address; none: all of them.
    pub host_ip: Option<IpAddr>,
}

/// Rates in bits per second and bursts in bits; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What the container receives.
    pub ingress_rate: u64,
    /// How much of it at once.
    pub ingress_burst: u64,
    /// What the container sends.
    pub egress_rate: u64,
    /// How much of it at once.
    pub egress_burst: u64,
}

impl NetworkConfig {
    /// The port mappings; those without a port of the node are none.
    pub fn port_mappings(&self) -> Result<Vec<PortMapping>, Error> {
        let Some(value) = self.capability("portMappings")? else {
            return Ok(Vec::new());
        };
        let list = value
            .as_array()
            .ok_or_else(|| invalid("portMappings", "isn't a list"))?;
        let mappings = list.iter().enumerate().map(|(index, mapping)| {
            let at = format!("portMappings[{index}]");
            let fields = mapping
                .as_object()
                .ok_or_else(|| invalid(&at, "isn't an object"))?;
            port_mapping(&at, fields)
        });
        let mappings: Result<Vec<Option<PortMapping>>, Error> = mappings.collect();
        Ok(mappings?.into_iter().flatten().collect())
    }

    /// The rates that the container's traffic is held to.
    pub fn bandwidth(&self) -> Result<Bandwidth, Error> {
        let Some(value) = self.capability("bandwidth")? else {
            return Ok(Bandwidth::default());
        };
        let fields = value
            .as_object()
            .ok_or_else(|| invalid("bandwidth", "isn't an object"))?;
        let number = |key: &str| match field(fields, key) {
            None | Some(Value::Null) => Ok(0),
            Some(value) => value.as_u64().ok_or_else(|| {
                invalid(
                    &format!("bandwidth.{key}"),
                    &format!("{value} isn't a number of bits"),
                )
            }),
        };
        Ok(Bandwidth {
            ingress_rate: number("ingressRate")?,
            ingress_burst: number("ingressBurst")?,
            egress_rate: number("egressRate")?,
            egress_burst: number("egressBurst")?,
        })
    }

    fn capability(&self, key: &str) -> Result<Option<&Value>, Error> {
        let known = match self.rest.get("runtimeConfig") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(known)) => known,
            Some(_) => {
                return Err(Error::new(
                    Code::InvalidConfig,
                    "runtimeConfig in the network configuration isn't an object",
                ));
            }
        };
        Ok(known.get(key).filter(|value| !value.is_null()))
    }
}

fn port_mapping(at: &str, fields: &Map<String, Value>) -> Result<Option<PortMapping>, Error> {
    let port = |key: &str| match field(fields, key) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| {
                invalid(
                    &format!("{at}.{key}"),
                    &format!("{value} isn't a port, 1 to 65535"),
                )
            }),
    };
    let text = |key: &str| field(fields, key).and_then(Value::as_str).unwrap_or_default();
    let host_port = port("hostPort")?;
    if host_port == 0 {
        return Ok(None);
    }
    let container_port = port("containerPort")?;
    if container_port == 0 {
        return Err(invalid(&format!("{at}.containerPort"), "is missing"));
    }
    let host_ip = match text("hostIP") {
        "" => None,
        address => Some(
            address
                .parse()
                .map_err(|_| invalid(&format!("{at}.hostIP"), &format!("{address:?} isn't an address")))?,
        ),
    };
    let protocol = match text("protocol") {
        "" => "tcp".to_owned(),
        protocol => protocol.to_ascii_lowercase(),
    };
    Ok(Some(PortMapping {
        host_port,
        container_port,
        protocol,
        host_ip,
    }))
}

/// A field by name, in whichever case: containerd writes `HostPort` and `IngressRate`, which readers
/// in Go take for what the conventions call `hostPort` and `ingressRate`.
fn field<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let exact = fields.get(key);
    exact.or_else(|| {
        let mut alike = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
        alike.next().map(|(_, value)| value)
    })
}

fn invalid(field: &str, problem: &str) -> Error {
    Error::new(
        Code::InvalidConfig,
        format!("runtimeConfig.{field} in the network configuration {problem}"),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn config(runtime: Value) -> NetworkConfig {
        let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "t", "runtimeConfig": runtime});
        NetworkConfig::parse(config.to_string().as_bytes()).expect("JSON of the right shape")
    }

    #[test]
    fn port_mappings_are_read_as_runtimes_write_them() {
        let config = config(json!({"portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
            {"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "fd00::1"},
            {"hostPort": 0, "containerPort": 81, "protocol": "tcp"},
            {"hostPort": 9, "containerPort": 9},
        ], "dns": {"servers": []}}));
        let mappings = config.port_mappings().expect("valid");
        assert_eq!(mappings.len(), 3, "one has no port of the node");
        assert_eq!(
            (mappings[0].protocol.as_str(), mappings[0].host_ip),
            ("tcp", None)
        );
        assert_eq!(mappings[1].host_ip, "fd00::1".parse().ok());
        assert_eq!((mappings[1].host_port, mappings[1].container_port), (53, 5353));
        assert_eq!(mappings[2].protocol, "tcp");
        assert_eq!(config.bandwidth(), Ok(Bandwidth::default()));
    }

    #[test]
    fn rates_are_read_as_runtimes_write_them() {
        let rates = json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX, "egressRate": 0});
        let bandwidth = config(json!({"bandwidth": rates})).bandwidth().expect("valid");
        assert_eq!(bandwidth.ingress_rate, 10_000_000);
        assert_eq!(bandwidth.ingress_burst, u64::from(u32::MAX));
        assert_eq!((bandwidth.egress_rate, bandwidth.egress_burst), (0, 0));
    }

    #[test]
    fn containerd_writes_names_in_its_own_case() {
        let config = config(json!({
            "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "udp", "HostIP": "192.0.2.1"}],
            "bandwidth": {"IngressRate": 1000, "IngressBurst": 2, "EgressRate": 3000, "EgressBurst": 4},
        }));
        let mappings = config.port_mappings().expect("valid");
        let wanted = PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "udp".to_owned(),
            host_ip: "192.0.2.1".parse().ok(),
        };
        assert_eq!(mappings, [wanted]);
        let wanted = Bandwidth {
            ingress_rate: 1000,
            ingress_burst: 2,
            egress_rate: 3000,
            egress_burst: 4,
        };
        assert_eq!(config.bandwidth(), Ok(wanted));
    }

    #[rstest]
    #[case(json!(null))]
    #[case(json!({}))]
    #[case(json!({"portMappings": null, "bandwidth": null}))]
    #[case(json!({"portMappings": []}))]
    fn nothing_said_is_nothing_wanted(#[case] runtime: Value) {
        let config = config(runtime);
        assert_eq!(config.port_mappings(), Ok(Vec::new()));
        assert_eq!(config.bandwidth(), Ok(Bandwidth::default()));
    }

    #[rstest]
    #[case(json!(7), "runtimeConfig in")]
    #[case(json!({"portMappings": {}}), "portMappings")]
    #[case(json!({"portMappings": [7]}), "portMappings[0]")]
    #[case(json!({"portMappings": [{"hostPort": 70000, "containerPort": 1}]}), "portMappings[0].hostPort")]
    #[case(json!({"portMappings": [{"hostPort": -1, "containerPort": 1}]}), "portMappings[0].hostPort")]
    #[case(json!({"portMappings": [{"hostPort": 1}]}), "portMappings[0].containerPort")]
    #[case(json!({"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "home"}]}), "hostIP")]
    #[case(json!({"bandwidth": []}), "bandwidth")]
    #[case(json!({"bandwidth": {"ingressRate": "1M"}}), "bandwidth.ingressRate")]
    #[case(json!({"bandwidth": {"egressBurst": -1}}), "bandwidth.egressBurst")]
    fn what_is_malformed_is_refused_by_name(#[case] runtime: Value, #[case] names: &str) {
        let config = config(runtime);
        let error = config
            .port_mappings()
            .map(drop)
            .and_then(|()| config.bandwidth().map(drop))
            .expect_err("refused");
        assert_eq!(error.code, Code::InvalidConfig);
        assert!(error.msg.contains(names), "{error}");
    }
}
