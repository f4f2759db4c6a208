//! Gives each node its pod addresses.

use std::sync::{Arc, Mutex, MutexGuard};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tracing::{info, warn};

use super::allocator::Allocator;
use crate::Config;
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Informer, Key};
use crate::queue::{Queue, Reconcile};
use crate::recorder::{EventType, Recorder};

/// The controller of `spec.podCIDRs`.
#[derive(Clone)]
pub(crate) struct Controller {
    client: Client,
    recorder: Recorder,
    nodes: Cache<Node>,
    allocator: Arc<Mutex<Allocator>>,
    queue: Queue<Key>,
}

impl Controller {
    pub(crate) fn new(
        client: Client,
        recorder: &Recorder,
        config: &Config,
        nodes: &mut Informer<Node>,
    ) -> Self {
        let queue: Queue<Key> = Queue::default();
        let woken = queue.clone();
        nodes.on_change(move |change| woken.add(Key::of(&**change.object())));
        let Config {
            cluster_cidrs,
            node_mask_v4,
            node_mask_v6,
            ..
        } = config;
        let allocator = Allocator::new(cluster_cidrs, *node_mask_v4, *node_mask_v6);
        Self {
            client,
            recorder: recorder.named("node-controller"),
            nodes: nodes.cache(),
            allocator: Arc::new(Mutex::new(allocator)),
            queue,
        }
    }

    fn allocator(&self) -> MutexGuard<'_, Allocator> {
        self.allocator
            .lock()
            .expect("no code panics while it holds the allocator")
    }

    /// Notes what every node has already. Before that, nothing may be given to any.
    pub(crate) fn load(&self) {
        for node in self.nodes.list() {
            let blocks = blocks(&node);
            if !blocks.is_empty() {
                self.note(&node, &blocks);
            }
        }
    }

    fn note(&self, node: &Node, blocks: &[IpNet]) {
        let name = super::name(node);
        if let Err(other) = self.allocator().occupy(name, blocks) {
            warn!(node = name, other, "two nodes have the same pod addresses");
            let message = format!("Node {name} has pod addresses that node {other} has too");
            self.recorder
                .event(node, EventType::Warning, "CIDRAssignmentFailed", message);
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "pod addresses";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(node) = self.nodes.get(&key) else {
            self.allocator().release(&key.name);
            return Ok(());
        };
        let has = blocks(&node);
        if !has.is_empty() {
            self.note(&node, &has);
            return Ok(());
        }
        if node.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let allocated = self.allocator().allocate(&key.name);
        match allocated {
            Ok(blocks) => self.write(&node, &blocks).await,
            Err(range) => {
                let name = super::name(&node);
                let message =
                    format!("Node {name} status is now: CIDRNotAvailable (no block of {range} is left)");
                self.recorder
                    .event(&*node, EventType::Normal, "CIDRNotAvailable", message);
                Err(Error::Object {
                    object: format!("node {name}"),
                    reason: format!("every block of the pod range {range} is taken"),
                })
            }
        }
    }
}

impl Controller {
    /// A failed write is tried again with the same blocks, for it may have arrived.
    async fn write(&self, node: &Node, blocks: &[IpNet]) -> Result<(), Error> {
        let name = super::name(node);
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({
            "metadata": { "uid": node.metadata.uid },
            "spec": { "podCIDR": blocks.first(), "podCIDRs": blocks },
        }));
        let written = api.patch(name, &PatchParams::default(), &patch).await;
        let written = written.doing(|| format!("give node {name} its pod addresses"));
        if ignore_missing(written)?.is_some() {
            info!(node = name, ?blocks, "pod addresses given");
        }
        Ok(())
    }
}

/// The blocks that a node has.
fn blocks(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let texts = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    let mut blocks: Vec<IpNet> = Vec::new();
    for block in texts.filter_map(|text| text.parse().ok()) {
        if !blocks.contains(&block) {
            blocks.push(block);
        }
    }
    blocks
}
