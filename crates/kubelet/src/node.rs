//! The Node object: registered once, its status kept true.
//!
//! Ready follows events, not a timer: the runtime answering, the network
//! opening and the pod range being assigned each wake the loop, so that a node
//! is Ready within milliseconds of being so.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::events::About;
use crate::machine::Pressure;
use crate::node_status::{self, Readiness};
use crate::retry::Growing;

/// How often the node looks at itself without a reason to.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often the status is written although nothing changed.
const WRITE_EVERY: Duration = Duration::from_secs(300);
/// How often the runtime is asked how it is: while it isn't ready, at first
/// and later, and when it is.
const ASK_AT_FIRST: Duration = Duration::from_millis(25);
const ASK_LATER: Duration = Duration::from_secs(1);
const ASK_WHEN_READY: Duration = Duration::from_secs(5);
const AT_FIRST: u32 = 400;

/// What the runtime says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuntimeHealth {
    /// Why it can't run pods, or why its network can't.
    pub(crate) problems: Vec<String>,
    /// Such as `containerd://1.6.20`.
    pub(crate) version: String,
}

/// Keeps the Node until it is dropped. `uid` gets the Node's uid.
pub(crate) async fn run(ctx: Arc<Context>, uid: watch::Sender<Option<String>>) {
    let (health, runtime) = watch::channel(RuntimeHealth {
        problems: vec!["container runtime status check may not have completed yet".to_owned()],
        version: String::new(),
    });
    let _asking = AbortOnDropHandle::new(tokio::spawn(ask_runtime(Arc::clone(&ctx), health)));
    let keeper = Keeper {
        api: Api::all(ctx.client.clone()),
        ctx,
        runtime,
        uid,
        node: None,
        written: None,
        growing: Growing::for_requests(),
        was_ready: None,
    };
    keeper.run().await;
}

async fn ask_runtime(ctx: Arc<Context>, health: watch::Sender<RuntimeHealth>) {
    let mut asked = 0u32;
    let mut version = String::new();
    loop {
        if version.is_empty()
            && let Ok(it) = ctx.cri.version().await
        {
            version = format!(
                "{}://{}",
                it.runtime_name,
                it.runtime_version.trim_start_matches('v')
            );
        }
        let problems = match ctx.cri.status().await {
            Ok(status) => node_status::runtime_problems(&status),
            Err(error) => {
                // It may come back as another version.
                version.clear();
                vec![format!("container runtime is down: {error}")]
            }
        };
        let is_ready = problems.is_empty();
        let now = RuntimeHealth {
            problems,
            version: version.clone(),
        };
        health.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
        asked = if is_ready { 0 } else { asked.saturating_add(1) };
        tokio::time::sleep(match asked {
            0 => ASK_WHEN_READY,
            1..AT_FIRST => ASK_AT_FIRST,
            _ => ASK_LATER,
        })
        .await;
    }
}

struct Keeper {
    ctx: Arc<Context>,
    api: Api<Node>,
    runtime: watch::Receiver<RuntimeHealth>,
    uid: watch::Sender<Option<String>>,
    /// The Node as the API has it; `None` until it is registered.
    node: Option<Node>,
    /// The conditions as they were last written, and when.
    written: Option<(Vec<NodeCondition>, tokio::time::Instant)>,
    growing: Growing,
    was_ready: Option<bool>,
}

impl Keeper {
    async fn run(mut self) {
        let watch = watch_object(self.api.clone(), &self.ctx.config.node_name);
        let mut watch = std::pin::pin!(watch.backoff(Growing::for_watches()));
        let network = Arc::clone(&self.ctx.network);
        loop {
            // Armed before looking, so that nothing slips in between.
            let opened = network.changed();
            let pause = match self.keep().await {
                Ok(()) => {
                    self.growing.reset();
                    LOOK_EVERY
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot keep the Node up to date yet");
                    self.growing.delay()
                }
            };
            tokio::select! {
                () = opened => {}
                _ = self.runtime.changed() => {}
                Some(event) = watch.next() => match event {
                    Ok(Some(node)) => self.heard(node),
                    // It was deleted under us: register again.
                    Ok(None) => {
                        self.node = None;
                        self.written = None;
                    }
                    Err(error) => tracing::debug!(%error, "the watch of the Node is interrupted"),
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Brings the API up to date.
    async fn keep(&mut self) -> Result<(), kube::Error> {
        if self.node.is_none() {
            self.register().await?;
        }
        let Some(node) = &self.node else { return Ok(()) };
        let readiness = self.readiness(node);
        let pressure = Pressure::now(&self.ctx.config.root_dir);
        let conditions = node_status::conditions(node, &readiness, pressure);
        let is_due = match &self.written {
            None => true,
            Some((before, at)) => !node_status::same(before, &conditions) || at.elapsed() >= WRITE_EVERY,
        };
        if !is_due {
            return Ok(());
        }
        let version = self.runtime.borrow().version.clone();
        let patch = node_status::patch(&self.ctx, &conditions, &version);
        let name = &self.ctx.config.node_name;
        let node = self
            .api
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await?;
        self.tell_readiness(readiness.is_ready());
        self.written = Some((conditions, tokio::time::Instant::now()));
        self.heard(node);
        Ok(())
    }

    fn readiness(&self, node: &Node) -> Readiness {
        let mut problems = self.runtime.borrow().problems.clone();
        problems.extend(self.ctx.network.ready().err());
        let assigned = node
            .spec
            .as_ref()
            .and_then(|s| s.pod_cidr.as_deref())
            .is_some_and(|c| !c.is_empty());
        if !assigned {
            problems.push("the node has no pod range (spec.podCIDR) yet".to_owned());
        }
        Readiness { problems }
    }

    fn tell_readiness(&mut self, ready: bool) {
        if self.was_ready == Some(ready) {
            return;
        }
        let name = &self.ctx.config.node_name;
        let reason = if ready { "NodeReady" } else { "NodeNotReady" };
        if ready || self.was_ready.is_some() {
            self.ctx.events.normal(
                &About::node(name),
                reason,
                format!("Node {name} status is now: {reason}"),
            );
        }
        self.was_ready = Some(ready);
    }

    fn heard(&mut self, node: Node) {
        self.uid.send_if_modified(|uid| {
            let differs = *uid != node.metadata.uid;
            uid.clone_from(&node.metadata.uid);
            differs
        });
        self.node = Some(node_status::slim(node));
    }

    /// Makes the Node, or takes over the one that is there.
    async fn register(&mut self) -> Result<(), kube::Error> {
        let name = &self.ctx.config.node_name;
        let version = self.runtime.borrow().version.clone();
        let fresh = node_status::node(&self.ctx, &version);
        let node = match self.api.create(&PostParams::default(), &fresh).await {
            Ok(node) => {
                let message = format!("Starting kubelet on {name}");
                self.ctx.events.normal(&About::node(name), "Starting", message);
                node
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let labels = json!({"metadata": {"labels": fresh.metadata.labels}});
                self.api
                    .patch(name, &PatchParams::default(), &Patch::Merge(labels))
                    .await?
            }
            Err(error) => return Err(error),
        };
        tracing::info!(node = name, "registered");
        self.heard(node);
        Ok(())
    }
}
