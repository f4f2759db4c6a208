//! Bytes that reach the nodes: DNS messages, what a runtime says, and objects that become plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use cni::{Call, NetworkConfig, Version};
use dns::wire::{self, Answer, Left, MAX_UDP, Packet, Plain};
use hickory_proto::op::ResponseCode;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use model::{AttachmentId, NodeFacts, PodRef, PolicyAttachment, Snapshot, Transport, Uplink};
use plan::{PolicyIndex, PolicyPlan};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A question, and what another server answers: the first half of the bytes, as its length before it says.
pub(crate) fn dns(input: &[u8]) {
    let Some((length, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (asked, answer) = rest.split_at(length);
    let question = match wire::read(asked) {
        Ok(question) => question,
        Err(wire::Wrong::Silence) => return,
        Err(wire::Wrong::Reply(reply)) => {
            assert!(reply[2] & 0x80 != 0, "a reply is no question");
            return;
        }
    };
    if let Some(plain) = Plain::read(asked) {
        let mut bytes = Vec::new();
        let zone = wire::Zone { below: 0, serial: 1 };
        plain.render(&["192.0.2.1".parse().expect("an address")], zone, &mut bytes);
    }
    let refused = Answer::failed(ResponseCode::ServFail);
    for limit in [512, usize::from(MAX_UDP)] {
        wire::render(&question, &refused, limit);
    }
    // Only what was asked is compared: the rest of a forwarded question is ours.
    if let Ok(packet) = Packet::read(answer, asked) {
        packet.code();
        packet.records(Left::After(1));
        let whole = packet.render(&question, Left::After(1), usize::MAX);
        assert!(
            Packet::read(&whole, asked).is_ok(),
            "what is passed on can be read"
        );
        packet.render(&question, Left::After(1), 512);
    }
}

#[derive(Deserialize)]
struct Plugin {
    environment: BTreeMap<String, String>,
    stdin: Value,
}

/// What a container runtime tells the plugin, and the plugin the agent.
pub(crate) fn cni(input: &[u8]) {
    let _ = NetworkConfig::parse(input);
    let _ = cni::wire::Request::parse(input);
    let Ok(Plugin { environment, stdin }) = serde_json::from_slice(input) else {
        return;
    };
    let Ok(config) = NetworkConfig::parse(stdin.to_string().as_bytes()) else {
        return;
    };
    let _ = (config.port_mappings(), config.bandwidth(), config.socket());
    if let Some(result) = config.prev_result.as_ref()
        && let Ok(result) = cni::AddResult::parse(result)
    {
        for version in Version::ALL {
            result.render(version);
            let _ = result.render_after(version, config.prev_result.as_ref());
        }
    }
    if let Ok(call) = Call::read(|name| environment.get(name).cloned()) {
        let _ = config.validate(call.command);
        let request = cni::wire::Request::new(call, config);
        let bytes = serde_json::to_vec(&request).expect("a request becomes JSON");
        let again = cni::wire::Request::parse(&bytes).expect("what the plugin sends is read");
        assert_eq!(again, request);
    }
}

/// The objects of some manifests that are of a kind.
fn of_kind<T: DeserializeOwned>(objects: &[Value], kind: &str) -> Vec<T> {
    let objects = objects.iter().filter(|object| object["kind"] == kind);
    objects
        .filter_map(|object| serde_json::from_value(object.clone()).ok())
        .collect()
}

fn facts(node: &str) -> NodeFacts {
    NodeFacts {
        name: node.to_owned(),
        uplink: Uplink {
            name: "eth0".to_owned(),
            mtu: 1500,
            addresses: vec!["192.0.2.1/24".parse().expect("an address")],
        },
        ..NodeFacts::default()
    }
}

/// Nodes, Services with their annotations and EndpointSlices become a plan, which can be printed and walked.
pub(crate) fn services(input: &[u8]) {
    let Ok(objects) = serde_json::from_slice::<Vec<Value>>(input) else {
        return;
    };
    let mut snapshot = Snapshot::default();
    for node in of_kind::<Node>(&objects, "Node") {
        let name = node.metadata.name.clone().unwrap_or_default();
        snapshot.nodes.insert(name, kube_objects::node(&node).0);
    }
    for service in of_kind::<Service>(&objects, "Service") {
        if let Some((planned, _)) = kube_objects::service(&service) {
            snapshot
                .services
                .insert(kube_objects::service_name(&service), planned);
        }
    }
    let mut names = kube_objects::Names::default();
    for slice in of_kind::<EndpointSlice>(&objects, "EndpointSlice") {
        let owner = kube_objects::slice_owner(&slice);
        let (planned, _) = kube_objects::slice(&slice, &mut names);
        if let Some(service) = owner.and_then(|owner| snapshot.services.get_mut(&owner)) {
            let name = slice.metadata.name.unwrap_or_default();
            service.slices.insert(name, Arc::new(planned));
        }
    }
    let plans: BTreeMap<_, _> = snapshot
        .nodes
        .keys()
        .take(2)
        .map(|node| (node.clone(), plan::plan(&snapshot, &facts(node))))
        .collect();
    for plan in plans.values() {
        let _ = plan.to_string();
    }
    let services = snapshot.services.values().take(4);
    for (service, port) in services.flat_map(|service| service.ports.iter().map(move |port| (service, port)))
    {
        for destination in service.cluster_ips.iter().chain(&service.load_balancer_ips) {
            let packet = model::Packet {
                source: "192.0.2.1".parse().expect("an address"),
                destination: *destination,
                transport: Transport::Tcp(port.port),
            };
            let _ = plan::trace(&plans, &packet);
        }
    }
}

/// NetworkPolicies, Namespaces and Pods become tables, and the same ones in whatever order they came.
pub(crate) fn policies(input: &[u8]) {
    let Ok(mut objects) = serde_json::from_slice::<Vec<Value>>(input) else {
        return;
    };
    let planned = policy_plan(&objects, false);
    let _ = planned.to_string();
    // Of two objects with one name the last one counts.
    let named = |object: &Value| {
        let metadata = &object["metadata"];
        format!(
            "{} {} {}",
            object["kind"], metadata["namespace"], metadata["name"]
        )
    };
    let mut seen = std::collections::BTreeSet::new();
    if objects.iter().all(|object| seen.insert(named(object))) {
        objects.reverse();
        assert_eq!(policy_plan(&objects, true), planned);
    }
}

/// All at once, or worked out after each object.
fn policy_plan(objects: &[Value], step_by_step: bool) -> PolicyPlan {
    let mut index = PolicyIndex::new("n");
    for object in objects {
        let one = std::slice::from_ref(object);
        for policy in of_kind::<NetworkPolicy>(one, "NetworkPolicy") {
            let name = kube_objects::namespaced_name(&policy.metadata);
            index.set_policy(name, Arc::new(kube_objects::policy(&policy).0));
        }
        for namespace in of_kind::<Namespace>(one, "Namespace") {
            let name = namespace.metadata.name.clone().unwrap_or_default();
            index.set_namespace(name, kube_objects::namespace(&namespace));
        }
        for pod in of_kind::<Pod>(one, "Pod") {
            add_pod(&mut index, &pod);
        }
        if step_by_step {
            index.take_change();
        }
    }
    index.plan()
}

fn add_pod(index: &mut PolicyIndex, pod: &Pod) {
    let name = kube_objects::namespaced_name(&pod.metadata);
    let (planned, _) = kube_objects::pod(pod);
    if planned.node.as_deref() == Some("n") && !planned.host_network {
        let attachment = PolicyAttachment {
            pod: PodRef {
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                uid: planned.uid.clone(),
            },
            addresses: planned.addresses.clone(),
        };
        index.attach(AttachmentId::new(name.to_string(), "eth0"), attachment);
    }
    index.set_pod(name, Arc::new(planned));
}
