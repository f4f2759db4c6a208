//! A cluster as its nodes' agents see it: plans and policies of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube_objects::namespaced_name;
use model::{
    Attachment, AttachmentId, HostPort, Labels, NamespacedName, NodeFacts, Packet, PodRef, Policy,
    PolicyAttachment, PolicyPod, PolicySnapshot, Protocol, ServiceName, Snapshot, Uplink,
};
use plan::{NodePlan, PolicyPlan, Spot, Trace, Verdict};

use super::Objects;

/// What every pod's and node's link carries unless something else is known.
const MTU: u32 = 1500;

/// A cluster, as packets meet it.
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    pub(crate) pods: BTreeMap<NamespacedName, PodView>,
    pub(crate) policies: BTreeMap<NamespacedName, Arc<Policy>>,
    pub(crate) namespaces: BTreeMap<String, Labels>,
    /// Services by name, headless ones too.
    pub(crate) services: BTreeMap<NamespacedName, Service>,
    plans: BTreeMap<String, NodePlan>,
    /// What was taken for granted.
    pub(crate) assumed: Vec<String>,
    /// What of the objects couldn't be used.
    pub(crate) problems: Vec<String>,
}

/// A pod.
#[derive(Debug, Clone)]
pub(crate) struct PodView {
    pub(crate) pod: Arc<PolicyPod>,
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) phase: String,
}

/// Whether a Service is the cluster's DNS, which each node answers itself.
pub(crate) fn is_dns(service: &Service) -> bool {
    namespaced_name(&service.metadata) == NamespacedName::new("kube-system", "kube-dns")
}

impl World {
    pub(crate) fn new(objects: Objects) -> World {
        let mut world = World {
            snapshot: Snapshot::default(),
            pods: BTreeMap::new(),
            policies: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            services: BTreeMap::new(),
            plans: BTreeMap::new(),
            assumed: objects.assumed.clone(),
            problems: Vec::new(),
        };
        world.read_nodes(&objects);
        world.read_pods(&objects);
        world.read_services(&objects);
        world.read_policies(&objects);
        let names: Vec<String> = world.snapshot.nodes.keys().cloned().collect();
        world.plans = names
            .iter()
            .map(|name| (name.clone(), world.plan(name)))
            .collect();
        world
    }

    fn read_nodes(&mut self, objects: &Objects) {
        for object in &objects.nodes {
            let (node, problems) = kube_objects::node(object);
            let name = object.metadata.name.clone().unwrap_or_default();
            self.problems.extend(problems.iter().map(ToString::to_string));
            self.snapshot.nodes.insert(name, node);
        }
        if self.snapshot.nodes.len() > 1 {
            self.assumed.push(
                "nodes share a link (which way packets take between them changes no verdict)".to_owned(),
            );
        }
    }

    fn read_pods(&mut self, objects: &Objects) {
        for object in &objects.pods {
            let name = namespaced_name(&object.metadata);
            let (pod, problems) = kube_objects::pod(object);
            self.problems
                .extend(problems.iter().map(|problem| format!("pod {name}: {problem}")));
            let phase = object.status.as_ref().and_then(|status| status.phase.clone());
            let view = PodView {
                pod: Arc::new(pod),
                host_ports: host_ports(object),
                phase: phase.unwrap_or_else(|| "Pending".to_owned()),
            };
            self.pods.insert(name, view);
        }
        for object in &objects.namespaces {
            let name = object.metadata.name.clone().unwrap_or_default();
            self.namespaces.insert(name, kube_objects::namespace(object));
        }
    }

    fn read_services(&mut self, objects: &Objects) {
        for object in &objects.services {
            let name = namespaced_name(&object.metadata);
            if let Some((service, problems)) = kube_objects::service(object) {
                self.problems.extend(
                    problems
                        .iter()
                        .map(|problem| format!("Service {name}: {problem}")),
                );
                if is_dns(object) {
                    self.snapshot
                        .node_local
                        .extend(service.cluster_ips.iter().copied());
                }
                let id = ServiceName::new(name.namespace.as_str(), name.name.as_str());
                self.snapshot.services.insert(id, service);
            }
            self.services.insert(name, object.clone());
        }
        let mut names = kube_objects::Names::default();
        for object in &objects.slices {
            let Some(owner) = kube_objects::slice_owner(object) else {
                continue;
            };
            let (slice, problems) = kube_objects::slice(object, &mut names);
            self.problems.extend(
                problems
                    .iter()
                    .map(|problem| format!("endpoints of {owner}: {problem}")),
            );
            if let Some(service) = self.snapshot.services.get_mut(&owner) {
                let name = object.metadata.name.clone().unwrap_or_default();
                service.slices.insert(name, Arc::new(slice));
            }
        }
    }

    fn read_policies(&mut self, objects: &Objects) {
        for object in &objects.policies {
            let name = namespaced_name(&object.metadata);
            let (policy, problems) = kube_objects::policy(object);
            self.problems
                .extend(problems.iter().map(|problem| format!("policy {name}: {problem}")));
            self.policies.insert(name, Arc::new(policy));
        }
    }

    fn plan(&self, node: &str) -> NodePlan {
        let mut snapshot = self.snapshot.clone();
        snapshot.attachments = self.attached(node).collect();
        let addresses = snapshot
            .nodes
            .get(node)
            .map(|node| node.addresses.clone())
            .unwrap_or_default();
        let all: Vec<IpAddr> = snapshot
            .nodes
            .values()
            .flat_map(|node| &node.addresses)
            .copied()
            .collect();
        let facts = NodeFacts {
            name: node.to_owned(),
            uplink: Uplink {
                name: "eth0".to_owned(),
                mtu: MTU,
                addresses: addresses.iter().map(|own| link_of(*own, &all)).collect(),
            },
            cgroup: Some("/".to_owned()),
            ..NodeFacts::default()
        };
        plan::plan(&snapshot, &facts)
    }

    fn attached(&self, node: &str) -> impl Iterator<Item = (AttachmentId, Attachment)> {
        let own = self.pods.iter().filter(move |(_, view)| {
            let pod = &view.pod;
            pod.node.as_deref() == Some(node) && !pod.host_network && !pod.addresses.is_empty()
        });
        own.map(|(name, view)| {
            let id = AttachmentId::new(name.to_string(), "eth0");
            let attachment = Attachment {
                pod: PodRef {
                    namespace: name.namespace.clone(),
                    name: name.name.clone(),
                    uid: view.pod.uid.clone(),
                },
                netns: "the pod's".to_owned(),
                host_link: id.host_link(),
                addresses: view.pod.addresses.clone(),
                mtu: MTU,
                host_ports: view.host_ports.clone(),
                ..Attachment::default()
            };
            (id, attachment)
        })
    }

    /// The policies of a node.
    pub(crate) fn policies_of(&self, node: &str) -> PolicyPlan {
        let attached = self.attached(node).map(|(id, attachment)| {
            let attachment = PolicyAttachment {
                pod: attachment.pod,
                addresses: attachment.addresses,
            };
            (id, attachment)
        });
        let pods = self
            .pods
            .iter()
            .map(|(name, view)| (name.clone(), view.pod.clone()));
        PolicyPlan::new(&PolicySnapshot {
            node: node.to_owned(),
            policies: self.policies.clone(),
            namespaces: self.namespaces.clone(),
            pods: pods.collect(),
            attachments: attached.collect(),
            node_local: self.snapshot.node_local.clone(),
        })
    }

    /// A packet's way. Policies are planned for those nodes alone whose pods it meets.
    pub(crate) fn trace(&self, packet: &Packet, policies: &mut BTreeMap<String, PolicyPlan>) -> Trace {
        let way = plan::trace(&self.plans, packet);
        let mut met = BTreeSet::new();
        let sent = way.hops.iter().filter_map(|hop| match hop {
            plan::Hop::Sent { from } => Some(from),
            _ => None,
        });
        let to = match &way.verdict {
            Verdict::Delivered { to, .. } => Some(to),
            _ => None,
        };
        for spot in sent.chain(to) {
            if let Spot::Pod { node, .. } = spot {
                met.insert(node.clone());
            }
        }
        for node in met {
            policies
                .entry(node.clone())
                .or_insert_with(|| self.policies_of(&node));
        }
        plan::trace_with_policies(&self.plans, policies, packet)
    }

    /// The endpoints that a packet to a Service may be led to.
    pub(crate) fn backends(&self, service: &ServiceName, packet: &Packet) -> BTreeSet<SocketAddr> {
        let objects = self.plans.values().flat_map(NodePlan::objects);
        let ports = objects.filter_map(|object| match object {
            plan::Object::Service(port) if port.id.service == *service => Some(port),
            _ => None,
        });
        let asked = packet.transport.port();
        let own = ports.filter(|port| {
            let is_for = |one: &plan::Frontend| {
                one.address == packet.destination && asked == Some((port.id.protocol, one.port))
            };
            port.frontends.iter().any(is_for)
        });
        let backends = own.flat_map(|port| &port.cluster.backends);
        backends.map(|backend| backend.socket).collect()
    }

    /// The pod with an address.
    pub(crate) fn pod_of(&self, address: IpAddr) -> Option<&NamespacedName> {
        let mut pods = self.pods.iter().filter(|(_, view)| !view.pod.host_network);
        pods.find(|(_, view)| view.pod.addresses.contains(&address))
            .map(|(name, _)| name)
    }
}

/// A network of a node's address that all nodes' addresses of the family are in.
fn link_of(own: IpAddr, all: &[IpAddr]) -> IpNet {
    let longest = if own.is_ipv4() { 24 } else { 64 };
    let nets = (0..=longest)
        .rev()
        .filter_map(|length| IpNet::new(own, length).ok());
    let mut fitting = nets.filter(|net| {
        let mut family = all.iter().filter(|address| address.is_ipv4() == own.is_ipv4());
        family.all(|address| net.contains(address))
    });
    fitting.next().unwrap_or_else(|| own.into())
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let read = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        Some(HostPort {
            protocol: match port.protocol.as_deref() {
                None | Some("TCP" | "") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                Some(_) => return None,
            },
            host_ip: port.host_ip.as_deref().and_then(|text| text.parse().ok()),
            host_port: u16::try_from(port.host_port?).ok().filter(|port| *port != 0)?,
            container_port: u16::try_from(port.container_port).ok()?,
        })
    };
    ports.filter_map(read).collect()
}
