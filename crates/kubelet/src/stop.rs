//! Stopping containers: hook first, then a signal, then the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use crate::context::Context;
use crate::decide::Kill;
use crate::events::About;
use crate::handler::{Outcome, Target};
use crate::pod;
use crate::runtime::Sandbox;

/// What is left for the signal when the hook took all the time there was.
const LEAST: Duration = Duration::from_secs(2);

/// One run to stop.
pub(crate) struct Stopper {
    pub(crate) ctx: Arc<Context>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) kill: Kill,
    pub(crate) grace: Duration,
}

impl Stopper {
    /// Stops it; returns once it has ended.
    pub(crate) async fn run(self) -> Result<(), cri::Error> {
        let about = About::container(&self.pod, &self.kill.name);
        self.ctx.events.normal(&about, "Killing", self.kill.why.clone());
        let begun = Instant::now();
        if let (Outcome::Failure(why) | Outcome::Broken(why), true) = self.pre_stop().await {
            let message = format!("PreStopHook failed: {why}");
            self.ctx.events.warning(&about, "FailedPreStopHook", message);
        }
        let left = self
            .grace
            .saturating_sub(begun.elapsed())
            .max(LEAST.min(self.grace));
        match self.ctx.cri.stop_container(&self.kill.id, left).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// The container's hook, for as long as the grace period lasts. The flag
    /// says whether there is one.
    async fn pre_stop(&self) -> (Outcome, bool) {
        let container = pod::container(&self.pod, &self.kill.name);
        let hook = container
            .as_ref()
            .and_then(|c| c.lifecycle.as_ref()?.pre_stop.as_ref());
        let (Some(container), Some(hook)) = (&container, hook) else {
            return (Outcome::Success, false);
        };
        let ips = self.sandbox.iter().flat_map(|s| s.ips.iter().copied());
        let node = self.sandbox.as_ref().filter(|s| s.host_network);
        let node = node.and_then(|_| self.ctx.config.node_ips.first().copied());
        let target = Target {
            cri: self.ctx.cri.clone(),
            run_id: self.kill.id.clone(),
            container: container.clone().into_owned(),
            pod_ip: ips.chain(node).next(),
        };
        match tokio::time::timeout(self.grace, target.hook(hook, self.grace)).await {
            Ok(outcome) => (outcome, true),
            Err(_) => (
                Outcome::Failure(format!("it took longer than {}s", self.grace.as_secs())),
                true,
            ),
        }
    }
}
