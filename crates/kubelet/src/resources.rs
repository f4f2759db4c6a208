//! Quantities and what they mean to the kernel: shares, quotas, limits, and
//! who is killed first when memory runs out.

use std::collections::BTreeMap;

use cri::message::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kernel::cgroup::Limits;

use crate::pod;

/// The period over which a CPU quota is counted, in microseconds.
const CPU_PERIOD: i64 = 100_000;
/// The smallest quota that the kernel accepts, in microseconds.
const MIN_QUOTA: i64 = 1_000;
/// The smallest number of shares that the kernel accepts.
const MIN_SHARES: i64 = 2;

/// A quantity in thousandths, rounded up; `None` if it isn't one.
pub(crate) fn millis(quantity: &Quantity) -> Option<i64> {
    let text = quantity.0.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let scale: f64 = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => {
            let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            10f64.powi(power)
        }
    };
    let value: f64 = number.parse().ok()?;
    // The product of two doubles is off by parts in 10^16: don't round that up.
    let exact = value * scale * 1000.0;
    let near = exact.round();
    let rounded = if (exact - near).abs() <= near.abs() * 1e-12 {
        near
    } else {
        exact.ceil()
    };
    #[expect(clippy::cast_possible_truncation, reason = "saturates, as wanted")]
    Some(rounded as i64)
}

/// A quantity in whole units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> Option<i64> {
    // Bytes may exceed what thousandths fit into 64 bits: drop to units first.
    let whole: Option<i64> = quantity.0.trim().parse().ok();
    whole.or_else(|| millis(quantity).map(|m| m.div_euclid(1000) + i64::from(m.rem_euclid(1000) > 0)))
}

fn amount(list: Option<&BTreeMap<String, Quantity>>, resource: &str) -> Option<i64> {
    let quantity = list?.get(resource)?;
    if resource == "cpu" {
        millis(quantity)
    } else {
        units(quantity)
    }
}

/// A container's limit: CPU in thousandths, anything else in units.
pub(crate) fn limit(container: &Container, resource: &str) -> Option<i64> {
    let list = container.resources.as_ref()?.limits.as_ref();
    amount(list, resource)
}

/// A container's request, in the same units. A limit alone requests as much.
pub(crate) fn request(container: &Container, resource: &str) -> Option<i64> {
    let list = container.resources.as_ref()?.requests.as_ref();
    amount(list, resource).or_else(|| limit(container, resource))
}

/// What a pod asks for as a whole.
pub(crate) fn pod_request(pod: &Pod, resource: &str) -> i64 {
    peak(pod, |c| request(c, resource)) + overhead(pod, resource)
}

/// What a pod may take as a whole, if each of its containers has a limit.
fn pod_limit(pod: &Pod, resource: &str) -> Option<i64> {
    let has = |c: &Container| limit(c, resource).is_some_and(|most| most > 0);
    let all = pod::all_containers(pod).all(has);
    all.then(|| peak(pod, |c| limit(c, resource)) + overhead(pod, resource))
}

fn overhead(pod: &Pod, resource: &str) -> i64 {
    amount(pod::spec(pod).overhead.as_ref(), resource).unwrap_or(0)
}

/// A pod's containers together with its sidecars, or its largest init
/// container, whichever is more.
fn peak(pod: &Pod, of: impl Fn(&Container) -> Option<i64>) -> i64 {
    let of = |c: &Container| of(c).unwrap_or(0);
    let mut sidecars = 0;
    let mut peak = 0;
    for container in pod::init_containers(pod) {
        if pod::is_sidecar(container) {
            sidecars += of(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + of(container));
        }
    }
    let together: i64 = pod::spec(pod).containers.iter().map(of).sum();
    peak.max(together + sidecars)
}

/// How a pod fares when the node runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// A pod's class: Guaranteed if every container limits CPU and memory to what
/// it requests, BestEffort if none says anything.
pub(crate) fn qos_class(pod: &Pod) -> QosClass {
    let mut any = false;
    let mut all = true;
    for container in pod::all_containers(pod) {
        for resource in ["cpu", "memory"] {
            let limit = limit(container, resource).filter(|v| *v > 0);
            let request = request(container, resource).filter(|v| *v > 0);
            any |= limit.is_some() || request.is_some();
            all &= limit.is_some() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// How willing the kernel is to kill the container's processes when memory
/// runs out: the more of its request a Burstable container uses, the more.
fn oom_score_adj(pod: &Pod, container: &Container, machine_memory: i64) -> i64 {
    match qos_class(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = request(container, "memory").unwrap_or(0);
            let share = 1000 - (1000 * request) / machine_memory.max(1);
            share.clamp(3, 999)
        }
    }
}

/// What the kernel is told about a pod as a whole: its part of the processor goes by what it requests; a
/// limit is set where all of its containers have one. Volumes in memory count to it too.
pub(crate) fn pod_limits(pod: &Pod) -> Limits {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let quota = pod_limit(pod, "cpu").map(quota);
    Limits {
        cpu_shares: Some(unsigned(shares(pod_request(pod, "cpu")))),
        cpu_quota: quota.map(|quota| (unsigned(quota), unsigned(CPU_PERIOD))),
        memory: pod_limit(pod, "memory").map(unsigned),
    }
}

/// Thousandths of a processor as shares.
fn shares(millis: i64) -> i64 {
    (millis * 1024 / 1000).max(MIN_SHARES)
}

/// Thousandths of a processor as microseconds a period.
fn quota(millis: i64) -> i64 {
    (millis * CPU_PERIOD / 1000).max(MIN_QUOTA)
}

/// What the kernel is told about one container.
pub(crate) fn linux_resources(
    pod: &Pod,
    container: &Container,
    machine_memory: i64,
) -> LinuxContainerResources {
    let most = limit(container, "cpu").filter(|m| *m > 0);
    let memory = limit(container, "memory").unwrap_or(0);
    LinuxContainerResources {
        cpu_shares: shares(request(container, "cpu").unwrap_or(0)),
        cpu_period: CPU_PERIOD,
        cpu_quota: most.map_or(0, quota),
        memory_limit_in_bytes: memory,
        oom_score_adj: oom_score_adj(pod, container, machine_memory),
        ..LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("100m", 100)]
    #[case("1", 1000)]
    #[case("1.5", 1500)]
    #[case("0.1", 100)]
    #[case("1u", 1)]
    #[case("2k", 2_000_000)]
    #[case("1e3", 1_000_000)]
    fn quantities_in_thousandths(#[case] text: &str, #[case] expected: i64) {
        assert_eq!(millis(&Quantity(text.to_owned())), Some(expected));
    }

    #[rstest]
    #[case("64Mi", 64 << 20)]
    #[case("1G", 1_000_000_000)]
    #[case("100m", 1)]
    #[case("9223372036854775807", i64::MAX)]
    fn quantities_in_units(#[case] text: &str, #[case] expected: i64) {
        assert_eq!(units(&Quantity(text.to_owned())), Some(expected));
    }

    #[test]
    fn nonsense_is_no_quantity() {
        for text in ["", "abc", "1x", "e3", "1e"] {
            assert_eq!(millis(&Quantity(text.to_owned())), None, "{text}");
        }
    }

    fn with(resources: serde_json::Value) -> Pod {
        pod(json!({"spec": {"containers": [{"name": "a", "resources": resources}]}}))
    }

    #[test]
    fn limits_alone_are_guaranteed() {
        let it = with(json!({"limits": {"cpu": "500m", "memory": "64Mi"}}));
        assert_eq!(qos_class(&it), QosClass::Guaranteed);
        let linux = linux_resources(&it, &it.spec.as_ref().unwrap().containers[0], 1 << 34);
        assert_eq!(
            (
                linux.cpu_shares,
                linux.cpu_quota,
                linux.memory_limit_in_bytes,
                linux.oom_score_adj
            ),
            (512, 50_000, 64 << 20, -997)
        );
    }

    #[test]
    fn nothing_is_best_effort_and_dies_first() {
        let it = with(json!({}));
        assert_eq!(qos_class(&it), QosClass::BestEffort);
        let linux = linux_resources(&it, &it.spec.as_ref().unwrap().containers[0], 1 << 34);
        assert_eq!(
            (linux.cpu_shares, linux.cpu_quota, linux.oom_score_adj),
            (2, 0, 1000)
        );
    }

    #[test]
    fn a_request_is_burstable() {
        let it = with(json!({"requests": {"cpu": "1", "memory": "8Gi"}}));
        assert_eq!(qos_class(&it), QosClass::Burstable);
        let linux = linux_resources(&it, &it.spec.as_ref().unwrap().containers[0], 1 << 34);
        assert_eq!((linux.cpu_shares, linux.oom_score_adj), (1024, 500));
    }

    #[test]
    fn a_pod_is_limited_where_all_of_its_containers_are() {
        let beside = |init: serde_json::Value| {
            pod_limits(&pod(json!({"spec": {
                "initContainers": [{"name": "setup", "resources": init}],
                "containers": [
                    {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}},
                    {"name": "b", "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "1", "memory": "32Mi"}}}]}})))
        };
        let all = beside(json!({"limits": {"cpu": "100m", "memory": "128Mi"}}));
        assert_eq!(all.cpu_shares, Some(768));
        assert_eq!(all.cpu_quota, Some((150_000, 100_000)));
        assert_eq!(all.memory, Some(128 << 20));
        let some = beside(json!({"limits": {"memory": "1Mi"}}));
        assert_eq!((some.cpu_quota, some.memory), (None, Some(96 << 20)));
        let none = pod_limits(&with(json!({})));
        assert_eq!(
            (none.cpu_shares, none.cpu_quota, none.memory),
            (Some(2), None, None)
        );
    }

    #[test]
    fn a_pod_needs_its_largest_moment() {
        let it = pod(json!({"spec": {
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "setup", "resources": {"requests": {"cpu": "1"}}}],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "300m"}}},
                {"name": "b", "resources": {"requests": {"cpu": "200m"}}}]}}));
        assert_eq!(pod_request(&it, "cpu"), 1100);
    }
}
