//! Endpoints of the Service `kube-dns`: each node answers names itself, so each that is ready is
//! one. The Service selects nobody, and what is written here is mirrored into EndpointSlices.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Node};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::error::{Doing, Error};
use crate::informer::{Cache, Informer, Key};
use crate::node::is_ready;
use crate::queue::{Queue, Reconcile};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

/// The subsets, or none while there are no nodes with an address.
fn wanted(nodes: &[Arc<Node>]) -> Value {
    let (mut ready, mut unready) = (Vec::new(), Vec::new());
    let mut nodes: Vec<&Arc<Node>> = nodes.iter().collect();
    nodes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let reference = json!({ "kind": "Node", "name": name, "uid": node.metadata.uid });
        let addresses =
            internal_ips(node).map(|ip| json!({ "ip": ip, "nodeName": name, "targetRef": reference }));
        match is_ready(node) {
            true => ready.extend(addresses),
            false => unready.extend(addresses),
        }
    }
    if ready.is_empty() && unready.is_empty() {
        return json!([]);
    }
    let port =
        |name: &str, port: u16, protocol: &str| json!({ "name": name, "port": port, "protocol": protocol });
    let mut subset = json!({ "ports": [port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"), port("metrics", 9153, "TCP")] });
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
        if !addresses.is_empty() {
            subset[field] = addresses.into();
        }
    }
    json!([subset])
}

fn internal_ips(node: &Node) -> impl Iterator<Item = &str> {
    let addresses = node
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_deref());
    let own = addresses.unwrap_or_default().iter();
    own.filter(|address| address.type_ == "InternalIP" && address.address.parse::<IpAddr>().is_ok())
        .map(|address| address.address.as_str())
}

/// The controller.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    nodes: Cache<Node>,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(client: Client, nodes: &mut Informer<Node>) -> Self {
        let queue: Queue<Key> = Queue::default();
        let woken = queue.clone();
        nodes.on_change(move |_| woken.add(Key::new(NAMESPACE, NAME)));
        Self {
            client,
            nodes: nodes.cache(),
            queue,
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "DNS endpoints";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, _: Key) -> Result<(), Error> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), NAMESPACE);
        let subsets = wanted(&self.nodes.list());
        let there = api
            .get_opt(NAME)
            .await
            .doing(|| format!("read Endpoints {NAMESPACE}/{NAME}"))?;
        let held = there
            .as_ref()
            .map(|held| json!(held.subsets.as_deref().unwrap_or_default()));
        if held.as_ref() == Some(&subsets) {
            return Ok(());
        }
        let writing = || format!("write Endpoints {NAMESPACE}/{NAME}");
        if let Some(mut held) = there {
            held.subsets = Some(serde_json::from_value(subsets).expect("these are subsets"));
            api.replace(NAME, &PostParams::default(), &held)
                .await
                .doing(writing)?;
        } else {
            let labels = json!({ "k8s-app": NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS" });
            let made = json!({ "metadata": { "name": NAME, "labels": labels }, "subsets": subsets });
            let made: Endpoints = serde_json::from_value(made).expect("these are Endpoints");
            api.create(&PostParams::default(), &made).await.doing(writing)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ready: &str, addresses: &[&str]) -> Arc<Node> {
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|ip| json!({ "type": "InternalIP", "address": ip }))
            .collect();
        let status = json!({ "addresses": addresses, "conditions": [{ "type": "Ready", "status": ready }] });
        Arc::new(serde_json::from_value(json!({ "metadata": { "name": name }, "status": status })).unwrap())
    }

    #[test]
    fn each_node_that_is_ready_is_an_endpoint() {
        let nodes = [
            node("node-2", "True", &["172.30.0.12", "fd00:172:30::12"]),
            node("node-1", "True", &["172.30.0.11", "here"]),
            node("node-3", "Unknown", &["172.30.0.13"]),
        ];
        let subsets = wanted(&nodes);
        let ips = |field: &str| -> Vec<&str> {
            let list = subsets[0][field].as_array().unwrap();
            list.iter()
                .map(|address| address["ip"].as_str().unwrap())
                .collect()
        };
        assert_eq!(
            ips("addresses"),
            ["172.30.0.11", "172.30.0.12", "fd00:172:30::12"]
        );
        assert_eq!(ips("notReadyAddresses"), ["172.30.0.13"]);
        assert_eq!(subsets[0]["addresses"][0]["nodeName"], "node-1");
        assert_eq!(wanted(&[]), json!([]));
    }
}
