//! Quantities and what they mean to the kernel: shares, quotas, limits, and
//! who is killed first when memory runs out.

use std::collections::BTreeMap;

use cri::message::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kernel::cgroup::Limits;
use quantity::Quantity as Amount;

use crate::pod;

/// The period over which a CPU quota is counted, in microseconds.
const CPU_PERIOD: i64 = 100_000;
/// The smallest quota that the kernel accepts, in microseconds.
const MIN_QUOTA: i64 = 1_000;
/// The smallest number of shares that the kernel accepts.
const MIN_SHARES: i64 = 2;

/// A quantity in thousandths, rounded up; `None` if it isn't one.
pub(crate) fn millis(quantity: &Quantity) -> Option<i64> {
    Amount::parse(quantity.0.trim()).ok().map(Amount::millis)
}

/// A quantity in whole units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> Option<i64> {
    Amount::parse(quantity.0.trim()).ok().map(Amount::units)
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
    peak(pod, |c| request(c, resource)).saturating_add(overhead(pod, resource))
}

/// What a pod may take as a whole, if each of its containers has a limit.
fn pod_limit(pod: &Pod, resource: &str) -> Option<i64> {
    let has = |c: &Container| limit(c, resource).is_some_and(|most| most > 0);
    let all = pod::all_containers(pod).all(has);
    all.then(|| peak(pod, |c| limit(c, resource)).saturating_add(overhead(pod, resource)))
}

fn overhead(pod: &Pod, resource: &str) -> i64 {
    amount(pod::spec(pod).overhead.as_ref(), resource).unwrap_or(0)
}

/// A pod's containers together with its sidecars, or its largest init
/// container, whichever is more.
fn peak(pod: &Pod, of: impl Fn(&Container) -> Option<i64>) -> i64 {
    let of = |c: &Container| of(c).unwrap_or(0);
    let mut sidecars: i64 = 0;
    let mut peak = 0;
    for container in pod::init_containers(pod) {
        let with_it = sidecars.saturating_add(of(container));
        if pod::is_sidecar(container) {
            sidecars = with_it;
        }
        peak = peak.max(with_it);
    }
    let containers = pod::spec(pod).containers.iter().map(of);
    peak.max(containers.fold(sidecars, i64::saturating_add))
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
            let used = request.saturating_mul(1000) / machine_memory.max(1);
            (1000 - used).clamp(3, 999)
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
    (millis.saturating_mul(1024) / 1000).max(MIN_SHARES)
}

/// Thousandths of a processor as microseconds a period.
fn quota(millis: i64) -> i64 {
    (millis.saturating_mul(CPU_PERIOD) / 1000).max(MIN_QUOTA)
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

    #[test]
    fn limits_beyond_what_can_be_counted_are_the_most_that_can() {
        let resources =
            json!({"limits": {"cpu": "9E", "memory": "9E"}, "requests": {"cpu": "9E", "memory": "8E"}});
        let container = json!({"name": "a", "resources": resources});
        let pod = pod(json!({"spec": {"containers": [container, container]}}));
        let limits = pod_limits(&pod);
        assert_eq!(limits.memory, Some(i64::MAX as u64));
        assert!(
            limits
                .cpu_quota
                .is_some_and(|(quota, period)| quota > 1000 * period)
        );
        let told = linux_resources(&pod, &pod.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert!(told.cpu_shares > 1024 && told.cpu_quota > CPU_PERIOD);
        assert_eq!(told.oom_score_adj, 3);
    }

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
