//! Services of type LoadBalancer, as far as announcing them goes.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use crate::CONDITION;

/// The domain of load balancers' classes that are ours; without a class they are, too.
const CLASS_PREFIX: &str = "ripstop.dev/";

/// What matters of one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Balanced {
    pub(crate) object: Service,
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether traffic stays on the node that it comes to.
    pub(crate) local: bool,
    /// Where load balancers ask.
    pub(crate) health_port: Option<u16>,
    pub(crate) current: Option<String>,
}

impl Balanced {
    /// `None` if it isn't ours.
    pub(crate) fn of(mut object: Service) -> Option<Self> {
        object.metadata.managed_fields = None;
        let spec = object.spec.as_ref()?;
        let class = spec.load_balancer_class.as_deref();
        if spec.type_.as_deref() != Some("LoadBalancer")
            || class.is_some_and(|class| !class.starts_with(CLASS_PREFIX))
        {
            return None;
        }
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        let port = spec.health_check_node_port.unwrap_or_default();
        let health_port = u16::try_from(port).ok().filter(|port| local && *port != 0);
        Some(Self {
            addresses: addresses(&object),
            current: current(&object),
            local,
            health_port,
            object,
        })
    }
}

/// The addresses that are ours to announce: those behind a proxy are the proxy's.
fn addresses(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let direct = ingress
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    direct
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect()
}

/// Who announces it, as its condition says.
fn current(service: &Service) -> Option<String> {
    let conditions = service.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == CONDITION)?;
    let (node, _) = condition.message.split_once(SAYS)?;
    (condition.status == "True").then(|| node.to_owned())
}

/// What stands between the node and the addresses.
const SAYS: &str = " announces ";

/// What the condition says of an announcer.
pub(crate) fn message(node: &str, addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    format!("{node}{SAYS}{}", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_matters_is_read() {
        let addresses = ["172.30.0.200", "fd00::200"].map(|ip| ip.parse().unwrap());
        let object = json!({
            "metadata": { "name": "web" },
            "spec": { "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001 },
            "status": {
                "loadBalancer": { "ingress": [{ "ip": "172.30.0.200" }, { "ip": "10.0.0.1", "ipMode": "Proxy" }, { "ip": "fd00::200" }] },
                "conditions": [{ "type": CONDITION, "status": "True", "reason": "Announced", "message": message("node-1", &addresses),
                    "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            },
        });
        let balanced = Balanced::of(serde_json::from_value(object.clone()).unwrap()).unwrap();
        assert_eq!(balanced.addresses, addresses);
        assert_eq!(balanced.current.as_deref(), Some("node-1"));
        assert_eq!((balanced.local, balanced.health_port), (true, Some(30_001)));
        let mut other = object;
        other["spec"]["loadBalancerClass"] = "example.org/x".into();
        assert_eq!(Balanced::of(serde_json::from_value(other).unwrap()), None);
    }
}
