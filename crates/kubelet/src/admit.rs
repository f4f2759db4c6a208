//! Whether the node can take a pod that was assigned to it.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::context::Context;
use crate::pod;
use crate::resources;
use crate::sandbox;
use crate::security;
use crate::status::Failure;

/// Why the pod can't run here, if so. `others` are the node's pods that run.
pub(crate) fn refuse(ctx: &Context, pod: &Pod, others: &[&Pod]) -> Option<Failure> {
    let has = Has {
        pods: i64::from(ctx.config.max_pods),
        cpu: ctx.machine.cpu_millis,
        memory: ctx.machine.memory,
    };
    cannot_do(pod, ctx.machine.app_armor).or_else(|| refuse_for(&has, pod, others))
}

/// What the pod asks of the node's kernel or runtime, and they don't have: left out silently it would be a
/// protection that its author believes in.
fn cannot_do(pod: &Pod, app_armor: bool) -> Option<Failure> {
    let rejected = |reason: &str, why: &str| {
        Some(Failure {
            reason: reason.to_owned(),
            message: format!("Pod was rejected: {why}"),
        })
    };
    if !app_armor && security::wants_app_armor(pod) {
        let why = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return rejected("AppArmor", why);
    }
    let spec = pod::spec(pod);
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let why = "Failed to admit pod as the OS field doesn't match node OS";
        return rejected("PodOSNotSupported", why);
    }
    if spec.resources.is_some() {
        let why = "resources of the pod as a whole (spec.resources) are not supported by this node: give them \
                   to its containers";
        return rejected("PodLevelResourcesNotSupported", why);
    }
    if spec
        .resource_claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
    {
        return rejected("ResourceClaimsNotSupported", "this node has no devices to claim");
    }
    let stop_signal = |c: &Container| c.lifecycle.as_ref().is_some_and(|l| l.stop_signal.is_some());
    if pod::all_containers(pod).any(stop_signal) {
        let why = "the container runtime doesn't support lifecycle.stopSignal: set STOPSIGNAL in the image";
        return rejected("ContainerStopSignalNotSupported", why);
    }
    let context = spec.security_context.as_ref();
    let groups = context.and_then(|c| c.supplemental_groups_policy.as_deref());
    if groups == Some("Strict") {
        let why = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return rejected("SupplementalGroupsPolicyNotSupported", why);
    }
    if spec.host_users == Some(false) && !pod::host_network(pod) {
        let why = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
        return rejected("UserNamespacesNotSupported", why);
    }
    None
}

/// What a node has.
pub(crate) struct Has {
    pub(crate) pods: i64,
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
}

/// Why a node that has so much can't run the pod beside others, if so.
pub(crate) fn refuse_for(has: &Has, pod: &Pod, others: &[&Pod]) -> Option<Failure> {
    if let Some(name) = sandbox::forbidden_sysctl(pod) {
        return Some(Failure {
            reason: "SysctlForbidden".to_owned(),
            message: format!("forbidden sysctl: {name:?} is not on the list of safe sysctls"),
        });
    }
    if others.iter().any(|other| ports_conflict(pod, other)) {
        return Some(Failure {
            reason: "NodePorts".to_owned(),
            message: "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports".to_owned(),
        });
    }
    let used = |resource: &str| {
        let requests = others.iter().map(|pod| resources::pod_request(pod, resource));
        requests.fold(0, i64::saturating_add)
    };
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let checks = [
        ("pods", 1, count, has.pods),
        ("cpu", resources::pod_request(pod, "cpu"), used("cpu"), has.cpu),
        (
            "memory",
            resources::pod_request(pod, "memory"),
            used("memory"),
            has.memory,
        ),
    ];
    let short = checks
        .into_iter()
        .find(|(_, wants, used, has)| *wants > 0 && used.saturating_add(*wants) > *has);
    let (resource, requested, used, capacity) = short?;
    Some(Failure {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Pod was rejected: Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    })
}

/// Whether both want the same port of the node, on the same address or on all.
fn ports_conflict(one: &Pod, two: &Pod) -> bool {
    let (one, two) = (host_ports(one), host_ports(two));
    let everywhere = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
    one.iter().any(|(protocol, port, address)| {
        two.iter().any(|(other, at, by)| {
            (protocol, port) == (other, at) && (address == by || everywhere(address) || everywhere(by))
        })
    })
}

/// Protocol, port and address of the ports of the node that a pod's containers want.
fn host_ports(pod: &Pod) -> Vec<(&str, i32, &str)> {
    let ports = pod::all_containers(pod).flat_map(|container| container.ports.iter().flatten());
    let wanted = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        Some((protocol, number, port.host_ip.as_deref().unwrap_or_default()))
    });
    wanted.collect()
}

/// Whether a pod was let in before: then it stays, whatever came since.
pub(crate) fn was_admitted(pod: &Pod) -> bool {
    pod::is_over(pod) || pod::is_deleted(pod) || pod.status.as_ref().is_some_and(|s| s.start_time.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use serde_json::json;

    fn wanting(cpu: &str) -> Pod {
        pod(json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}}))
    }

    #[test]
    fn a_port_of_the_node_is_one_pods() {
        let has = Has {
            pods: 9,
            cpu: 1000,
            memory: 1 << 30,
        };
        let at = |protocol: &str, port: i32, address: &str| {
            let port =
                json!({"containerPort": 80, "hostPort": port, "protocol": protocol, "hostIP": address});
            pod(json!({"spec": {"containers": [{"name": "a", "ports": [port]}]}}))
        };
        let held = at("TCP", 8080, "");
        let reason = |pod: &Pod| refuse_for(&has, pod, &[&held]).map(|failure| failure.reason);
        assert_eq!(reason(&at("TCP", 8080, "")).as_deref(), Some("NodePorts"));
        assert_eq!(
            reason(&at("TCP", 8080, "172.30.0.11")).as_deref(),
            Some("NodePorts")
        );
        assert_eq!(reason(&at("UDP", 8080, "")), None);
        assert_eq!(reason(&at("TCP", 8081, "")), None);
        let held = at("TCP", 8080, "172.30.0.11");
        let other = at("TCP", 8080, "172.30.0.12");
        assert_eq!(refuse_for(&has, &other, &[&held]), None);
    }

    #[test]
    fn protections_that_the_node_does_not_have_are_told() {
        let reason = |spec: serde_json::Value| {
            let mut spec = spec;
            spec["containers"] = json!([{"name": "a"}]);
            cannot_do(&pod(json!({ "spec": spec })), false).map(|failure| failure.reason)
        };
        let profile = |kind: &str| json!({"securityContext": {"appArmorProfile": {"type": kind}}});
        assert_eq!(reason(profile("RuntimeDefault")).as_deref(), Some("AppArmor"));
        assert_eq!(reason(profile("Unconfined")), None);
        assert_eq!(reason(json!({"hostUsers": true})), None);
        assert!(reason(json!({"hostUsers": false})).is_some());
        let strict = json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}});
        assert!(reason(strict).is_some());
        let windows = json!({"os": {"name": "windows"}});
        assert_eq!(reason(windows).as_deref(), Some("PodOSNotSupported"));
        let whole = json!({"resources": {"limits": {"cpu": "1"}}});
        assert_eq!(reason(whole).as_deref(), Some("PodLevelResourcesNotSupported"));
        let claims = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}]});
        assert_eq!(reason(claims).as_deref(), Some("ResourceClaimsNotSupported"));
    }

    #[test]
    fn a_node_refuses_more_than_can_be_counted() {
        let has = Has {
            pods: 9,
            cpu: 1000,
            memory: 1 << 30,
        };
        let most = json!({"requests": {"memory": i64::MAX.to_string(), "cpu": "9E"}});
        let one = json!({"name": "a", "resources": most});
        let pod = pod(
            json!({"spec": {"initContainers": [one], "containers": [one, one], "overhead": {"cpu": "9E"}}}),
        );
        for others in [&[][..], &[&wanting("600m"), &pod]] {
            let failure = refuse_for(&has, &pod, others).expect("it's too much");
            assert_eq!(failure.reason, "OutOfcpu");
        }
    }

    #[test]
    fn a_full_node_refuses() {
        let has = Has {
            pods: 2,
            cpu: 1000,
            memory: 1 << 30,
        };
        let one = wanting("600m");
        assert_eq!(refuse_for(&has, &wanting("400m"), &[&one]), None);
        insta::assert_snapshot!(refuse_for(&has, &wanting("500m"), &[&one]).unwrap().message,
            @"Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000");
        let small = pod(json!({"spec": {"containers": []}}));
        assert_eq!(
            refuse_for(&has, &small, &[&small, &small]).unwrap().reason,
            "OutOfpods"
        );
    }
}
