//! What the Node object says. Pure, but for the clock.

use std::collections::BTreeMap;

use cri::message::RuntimeStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use crate::context::Context;
use crate::machine::Pressure;

/// The version of Kubernetes whose kubelet this behaves like, and who it is.
pub(crate) const VERSION: &str = "v1.36.0+ripstop";

/// Whether the node can run pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// All that is in the way.
    pub(crate) problems: Vec<String>,
}

impl Readiness {
    pub(crate) fn is_ready(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What keeps the runtime from running pods.
pub(crate) fn runtime_problems(status: &RuntimeStatus) -> Vec<String> {
    let of = |kind: &str| {
        let condition = status.conditions.iter().find(|c| c.r#type == kind);
        let subject = if kind == "NetworkReady" {
            "container runtime network"
        } else {
            "container runtime"
        };
        match condition {
            Some(c) if c.status => None,
            Some(c) => Some(format!(
                "{subject} not ready: {kind}=false reason:{} message:{}",
                c.reason, c.message
            )),
            None => Some(format!("{subject} not ready: the runtime doesn't say {kind}")),
        }
    };
    ["RuntimeReady", "NetworkReady"]
        .into_iter()
        .filter_map(of)
        .collect()
}

/// The node's conditions. One that didn't change keeps its time.
pub(crate) fn conditions(node: &Node, readiness: &Readiness, pressure: Pressure) -> Vec<NodeCondition> {
    let ready = if readiness.is_ready() {
        (
            "Ready",
            true,
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
        )
    } else {
        ("Ready", false, "KubeletNotReady", readiness.problems.join(", "))
    };
    let short = |kind, is_short, bad, good, noun: &str| {
        let reason = if is_short { bad } else { good };
        let message = match kind {
            "DiskPressure" if is_short => "kubelet has disk pressure".to_owned(),
            "DiskPressure" => "kubelet has no disk pressure".to_owned(),
            _ if is_short => format!("kubelet has insufficient {noun} available"),
            _ => format!("kubelet has sufficient {noun} available"),
        };
        (kind, is_short, reason, message)
    };
    let states = [
        short(
            "MemoryPressure",
            pressure.memory,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "memory",
        ),
        short(
            "DiskPressure",
            pressure.disk,
            "KubeletHasDiskPressure",
            "KubeletHasNoDiskPressure",
            "disk",
        ),
        short(
            "PIDPressure",
            pressure.pids,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "PID",
        ),
        ready,
    ];
    let now = Time(Timestamp::now());
    let before = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    states
        .into_iter()
        .map(|(kind, is_true, reason, message)| {
            let status = if is_true { "True" } else { "False" };
            let old = before
                .into_iter()
                .flatten()
                .find(|c| c.type_ == kind && c.status == status);
            NodeCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(now.clone()),
                last_transition_time: old
                    .and_then(|c| c.last_transition_time.clone())
                    .or(Some(now.clone())),
            }
        })
        .collect()
}

/// Whether two lists say the same, heartbeats aside.
pub(crate) fn same(a: &[NodeCondition], b: &[NodeCondition]) -> bool {
    let say = |c: &NodeCondition| {
        (
            c.type_.clone(),
            c.status.clone(),
            c.reason.clone(),
            c.message.clone(),
        )
    };
    a.iter().map(say).eq(b.iter().map(say))
}

/// The Node as it is registered.
pub(crate) fn node(ctx: &Context, runtime_version: &str) -> Node {
    let config = &ctx.config;
    let taints = config.taints.clone();
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(ctx)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            ..NodeSpec::default()
        }),
        status: Some(facts(ctx, runtime_version)),
    }
}

fn labels(ctx: &Context) -> BTreeMap<String, String> {
    let mut labels = ctx.config.labels.clone();
    let known = [
        ("kubernetes.io/hostname", ctx.config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", ctx.machine.architecture),
    ];
    labels.extend(known.map(|(k, v)| (k.to_owned(), v.to_owned())));
    labels
}

/// What is so for as long as the kubelet runs.
fn facts(ctx: &Context, runtime_version: &str) -> NodeStatus {
    let (config, machine) = (&ctx.config, &ctx.machine);
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let mut addresses: Vec<_> = config
        .node_ips
        .iter()
        .map(|ip| address("InternalIP", ip.to_string()))
        .collect();
    addresses.push(address("Hostname", config.node_name.clone()));
    let amounts = |memory: i64, disk: i64| -> BTreeMap<String, Quantity> {
        let amounts = [
            ("cpu", cpu(machine.cpu_millis)),
            ("memory", format!("{}Ki", memory / 1024)),
            ("ephemeral-storage", format!("{}Ki", disk / 1024)),
            ("pods", config.max_pods.to_string()),
        ];
        let owned = amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount)));
        owned.into()
    };
    // Pods can have what is left above the floors at which the node says that it is short.
    let (memory, disk) = machine.allocatable();
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(amounts(memory, disk)),
        capacity: Some(amounts(machine.memory, machine.disk)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: config.listen.first().map_or(0, |socket| i32::from(socket.port())),
            }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: runtime_version.to_owned(),
            kernel_version: machine.kernel.clone(),
            kubelet_version: VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn cpu(millis: i64) -> String {
    if millis % 1000 == 0 {
        (millis / 1000).to_string()
    } else {
        format!("{millis}m")
    }
}

/// The status to write: everything that is the kubelet's.
pub(crate) fn patch(ctx: &Context, conditions: &[NodeCondition], runtime_version: &str) -> Value {
    let mut status = json!(facts(ctx, runtime_version));
    status["conditions"] = json!(conditions);
    // Addresses merge by type: those of another start of the node must go.
    if let Some(addresses) = status["addresses"].as_array_mut() {
        addresses.push(json!({"$patch": "replace"}));
    }
    json!({ "status": status })
}

/// The parts of the Node that are looked at here.
pub(crate) fn slim(mut node: Node) -> Node {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.images = None;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri::message::RuntimeCondition;

    fn line(conditions: &[NodeCondition]) -> String {
        let of = |c: &NodeCondition| {
            format!(
                "{}={} {}: {}",
                c.type_,
                c.status,
                c.reason.as_deref().unwrap(),
                c.message.as_deref().unwrap()
            )
        };
        conditions.iter().map(of).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_node_says_all_that_keeps_it_from_being_ready() {
        let readiness = Readiness {
            problems: vec!["container runtime is down".into(), "no pod range".into()],
        };
        let pressure = Pressure {
            disk: true,
            ..Pressure::default()
        };
        insta::assert_snapshot!(line(&conditions(&Node::default(), &readiness, pressure)), @r"
        MemoryPressure=False KubeletHasSufficientMemory: kubelet has sufficient memory available
        DiskPressure=True KubeletHasDiskPressure: kubelet has disk pressure
        PIDPressure=False KubeletHasSufficientPID: kubelet has sufficient PID available
        Ready=False KubeletNotReady: container runtime is down, no pod range
        ");
    }

    #[test]
    fn a_heartbeat_is_no_change() {
        let readiness = Readiness::default();
        let first = conditions(&Node::default(), &readiness, Pressure::default());
        let mut later = first.clone();
        later[3].last_heartbeat_time = None;
        assert!(same(&first, &later));
        later[3].status = "False".into();
        assert!(!same(&first, &later));
    }

    #[test]
    fn the_runtimes_own_words_are_passed_on() {
        let condition = |kind: &str, status| RuntimeCondition {
            r#type: kind.into(),
            status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        let status = RuntimeStatus {
            conditions: vec![condition("RuntimeReady", true), condition("NetworkReady", false)],
        };
        assert_eq!(
            runtime_problems(&status),
            [
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized"
            ]
        );
    }
}
