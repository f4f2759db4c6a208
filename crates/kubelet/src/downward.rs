//! The downward API: what a pod may learn about itself, as environment
//! variables and as files.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod, ResourceFieldSelector};

use crate::pod;
use crate::resources;

/// What of the node and the sandbox shows in fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) node_name: String,
    pub(crate) node_ips: Vec<IpAddr>,
    pub(crate) pod_ips: Vec<IpAddr>,
    /// The node's CPU in thousandths: a container without a limit has all.
    pub(crate) node_cpu_millis: i64,
    /// The node's memory in bytes, likewise.
    pub(crate) node_memory: i64,
}

/// The value of a field of the pod.
pub(crate) fn field(
    selector: &ObjectFieldSelector,
    pod: &Pod,
    around: &Surroundings,
) -> Result<String, String> {
    let path = selector.field_path.as_str();
    let meta = &pod.metadata;
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => quoted_map(meta.labels.as_ref()),
        "metadata.annotations" => quoted_map(meta.annotations.as_ref()),
        "spec.nodeName" => around.node_name.clone(),
        "spec.serviceAccountName" => text(&pod::spec(pod).service_account_name),
        "status.hostIP" => first(&around.node_ips),
        "status.hostIPs" => join(&around.node_ips),
        "status.podIP" => first(&around.pod_ips),
        "status.podIPs" => join(&around.pod_ips),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn join(ips: &[IpAddr]) -> String {
    let texts: Vec<_> = ips.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// One `key="value"` a line, sorted, as downward API files have it.
fn quoted_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// A container's request or limit, divided as asked and rounded up.
pub(crate) fn resource(
    selector: &ResourceFieldSelector,
    pod: &Pod,
    own_container: &str,
    around: &Surroundings,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty());
    let name = name.unwrap_or(own_container);
    let container = pod::container(pod, name).ok_or_else(|| format!("container {name} not found"))?;
    let container = &*container;
    let path = selector.resource.as_str();
    let (kind, resource) = path
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {path}"))?;
    let whole_node = match resource {
        "cpu" => around.node_cpu_millis,
        "memory" => around.node_memory,
        "ephemeral-storage" => 0,
        _ if resource.starts_with("hugepages-") => 0,
        _ => return Err(format!("unsupported container resource : {path}")),
    };
    let amount = match kind {
        "limits" => resources::limit(container, resource)
            .filter(|v| *v > 0)
            .unwrap_or(whole_node),
        "requests" => resources::request(container, resource).unwrap_or(0),
        _ => return Err(format!("unsupported container resource : {path}")),
    };
    Ok(divide(amount, selector, resource == "cpu")?.to_string())
}

/// `amount` by the selector's divisor (one by default), rounded up. CPU is in
/// thousandths on both sides.
fn divide(amount: i64, selector: &ResourceFieldSelector, cpu: bool) -> Result<i64, String> {
    let one = if cpu { 1000 } else { 1 };
    let divisor = match &selector.divisor {
        None => one,
        Some(quantity) => {
            let parsed = if cpu {
                resources::millis(quantity)
            } else {
                resources::units(quantity)
            };
            parsed.ok_or_else(|| format!("invalid divisor {}", quantity.0))?
        }
    };
    // An unset divisor arrives as "0" from clients that write their zero values.
    let divisor = if divisor <= 0 { one } else { divisor };
    Ok(amount.div_euclid(divisor) + i64::from(amount.rem_euclid(divisor) > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use rstest::rstest;
    use serde_json::json;

    fn around() -> Surroundings {
        Surroundings {
            node_name: "node-1".into(),
            node_ips: vec!["172.30.0.11".parse().unwrap()],
            pod_ips: vec!["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            node_cpu_millis: 2000,
            node_memory: 1 << 30,
        }
    }

    fn subject() -> Pod {
        pod(json!({
            "metadata": {"labels": {"app": "web", "tier": "a\"b"}},
            "spec": {"serviceAccountName": "default", "containers": [
                {"name": "a", "resources": {"limits": {"cpu": "250m", "memory": "100Mi"}}},
                {"name": "b"}]}}))
    }

    #[rstest]
    #[case("metadata.name", "web")]
    #[case("metadata.labels['app']", "web")]
    #[case("metadata.labels['none']", "")]
    #[case("metadata.labels", "app=\"web\"\ntier=\"a\\\"b\"")]
    #[case("spec.nodeName", "node-1")]
    #[case("status.podIP", "10.244.1.2")]
    #[case("status.podIPs", "10.244.1.2,fd00::2")]
    #[case("status.hostIP", "172.30.0.11")]
    fn fields(#[case] path: &str, #[case] expected: &str) {
        let selector = ObjectFieldSelector {
            api_version: None,
            field_path: path.into(),
        };
        assert_eq!(field(&selector, &subject(), &around()), Ok(expected.into()));
    }

    #[rstest]
    #[case("limits.cpu", None, "1")]
    #[case("limits.cpu", Some("1m"), "250")]
    #[case("limits.memory", Some("1Mi"), "100")]
    #[case("limits.memory", Some("0"), "104857600")]
    fn resources(#[case] path: &str, #[case] divisor: Option<&str>, #[case] expected: &str) {
        let selector = ResourceFieldSelector {
            container_name: None,
            divisor: divisor.map(|d| k8s_openapi::apimachinery::pkg::api::resource::Quantity(d.into())),
            resource: path.into(),
        };
        assert_eq!(
            resource(&selector, &subject(), "a", &around()),
            Ok(expected.into())
        );
    }

    #[test]
    fn no_limit_is_the_whole_node() {
        let selector = ResourceFieldSelector {
            resource: "limits.cpu".into(),
            ..Default::default()
        };
        assert_eq!(resource(&selector, &subject(), "b", &around()), Ok("2".into()));
    }
}
