//! What a pod asks of its node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use quantity::Quantity as Amount;

pub(crate) const CPU: &str = "cpu";
pub(crate) const MEMORY: &str = "memory";
pub(crate) const PODS: &str = "pods";

/// What cannot be read, which the API server doesn't let in, is nothing.
fn amount(quantity: &Quantity) -> Option<Amount> {
    Amount::parse(&quantity.0).ok()
}

/// A quantity in thousandths.
pub(crate) fn milli(quantity: &Quantity) -> i64 {
    amount(quantity).map_or(0, Amount::millis)
}

/// Amounts by resource: CPU in thousandths, everything else in units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    pub(crate) fn of(quantities: Option<&BTreeMap<String, Quantity>>) -> Self {
        let amount = |(name, quantity): (&String, &Quantity)| {
            let amount = match name.as_str() {
                CPU => milli(quantity),
                _ => amount(quantity).map_or(0, Amount::units),
            };
            (name.clone(), amount)
        };
        Self(quantities.into_iter().flatten().map(amount).collect())
    }

    pub(crate) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, name: &str, amount: i64) {
        self.0.insert(name.to_owned(), amount);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.get(name).saturating_add(*amount);
            self.set(name, sum);
        }
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let rest = self.get(name).saturating_sub(*amount);
            self.set(name, rest);
        }
    }

    fn at_least(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.get(name).max(*amount);
            self.set(name, most);
        }
    }
}

/// A port of the node that a pod wants for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    address: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// The same port on all addresses conflicts with it on any.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let all = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (all(&self.address) || all(&other.address) || self.address == other.address)
    }
}

/// What a pod asks of its node, computed once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) amounts: Amounts,
    pub(crate) ports: Vec<HostPort>,
}

impl Requests {
    pub(crate) fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else {
            return Self::default();
        };
        Self {
            amounts: amounts(spec),
            ports: ports(spec),
        }
    }
}

/// Containers run together; init containers run one after the other before them, while those that
/// restart (sidecars) go on running beside everything that comes later.
fn amounts(spec: &PodSpec) -> Amounts {
    let mut sidecars = Amounts::default();
    let mut at_start = Amounts::default();
    for init in spec.init_containers.iter().flatten() {
        let own = of_container(init);
        if is_sidecar(init) {
            sidecars.add(&own);
            at_start.at_least(&sidecars);
        } else {
            let mut together = sidecars.clone();
            together.add(&own);
            at_start.at_least(&together);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        total.add(&of_container(container));
    }
    total.at_least(&at_start);
    // What the pod as a whole asks for counts instead, where it says so.
    let whole = Amounts::of(spec.resources.as_ref().and_then(|r| r.requests.as_ref()));
    for (name, amount) in whole.iter() {
        total.set(name, amount);
    }
    total.add(&Amounts::of(spec.overhead.as_ref()));
    total
}

fn of_container(container: &Container) -> Amounts {
    Amounts::of(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    )
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let ports = sidecars
        .chain(&spec.containers)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                address: port.host_ip.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: port.host_port.filter(|&port| port > 0)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(cpu: &str) -> Value {
        json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } })
    }

    fn sidecar(cpu: &str) -> Value {
        let mut container = container(cpu);
        container["restartPolicy"] = json!("Always");
        container
    }

    fn cpu(spec: Value) -> i64 {
        amounts(&serde_json::from_value(spec).unwrap()).get(CPU)
    }

    #[test]
    fn containers_add_up_and_init_containers_count_by_the_largest() {
        let containers = json!([container("1"), container("500m")]);
        assert_eq!(cpu(json!({ "containers": containers })), 1500);
        let small = json!([container("1"), container("1")]);
        assert_eq!(
            cpu(json!({ "containers": containers, "initContainers": small })),
            1500
        );
        let large = json!([container("1"), container("3")]);
        assert_eq!(
            cpu(json!({ "containers": containers, "initContainers": large })),
            3000
        );
    }

    #[test]
    fn sidecars_run_beside_everything_that_comes_later() {
        let inits = json!([container("2"), sidecar("1"), container("2")]);
        assert_eq!(
            cpu(json!({ "containers": [container("1")], "initContainers": inits })),
            3000
        );
        let inits = json!([container("2"), sidecar("1"), sidecar("1")]);
        assert_eq!(
            cpu(json!({ "containers": [container("1")], "initContainers": inits })),
            3000
        );
    }

    #[test]
    fn overhead_is_added_and_the_whole_pods_request_counts_instead() {
        let spec = json!({ "containers": [container("1")], "overhead": { "cpu": "100m" } });
        assert_eq!(cpu(spec), 1100);
        let whole = json!({ "requests": { "cpu": "2" } });
        assert_eq!(
            cpu(json!({ "containers": [container("1")], "resources": whole })),
            2000
        );
    }

    #[test]
    fn ports_conflict_by_protocol_and_address() {
        let port = |address: &str, protocol: &str, port: i32| HostPort {
            address: address.to_owned(),
            protocol: protocol.to_owned(),
            port,
        };
        let all = port("", "TCP", 80);
        assert!(all.conflicts(&port("10.0.0.1", "TCP", 80)));
        assert!(!all.conflicts(&port("", "UDP", 80)));
        assert!(!all.conflicts(&port("", "TCP", 81)));
        assert!(!port("10.0.0.1", "TCP", 80).conflicts(&port("10.0.0.2", "TCP", 80)));
    }
}
