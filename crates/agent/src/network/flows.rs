//! From the programs' events to [`Flows`], and numbers for Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use kernel::{PolicyCounts, ToldEvents};
use model::{Flow, FlowEvent};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{DataPlane, Network};
use crate::clock;
use crate::flows::{Clocks, Names};

/// How many events are read before others have a turn.
const BATCH: usize = 256;
/// How soon to try again what the kernel refused.
const RETRY: Duration = Duration::from_secs(5);

impl<D: DataPlane> Network<D> {
    /// Reads what the programs tell, until `shutdown`; each drop goes to `drops` too, unless that is full.
    pub(crate) async fn follow_flows(
        &self,
        names: Names,
        drops: mpsc::Sender<Flow>,
        shutdown: CancellationToken,
    ) {
        let mut said = false;
        while !shutdown.is_cancelled() {
            // The programs are there once the network has been ready.
            let mut ready = self.ready.subscribe();
            tokio::select! {
                () = shutdown.cancelled() => return,
                is_ready = ready.wait_for(Result::is_ok) => if is_ready.is_err() { return },
            }
            let Err(error) = self.read_events(&names, &drops, &shutdown).await else {
                return;
            };
            if !std::mem::replace(&mut said, true) {
                warn!(%error, "conversations and drops can't be told; trying until they can");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn read_events(
        &self,
        names: &Names,
        drops: &mpsc::Sender<Flow>,
        shutdown: &CancellationToken,
    ) -> Result<(), kernel::Error> {
        let mut followers = self.flows.followers();
        let Some(events) = self.kernel.policy_events().await? else {
            shutdown.cancelled().await;
            return Ok(());
        };
        let mut events = ToldEvents::new(events)?;
        loop {
            let is_followed = *followers.borrow_and_update() > 0;
            self.kernel.follow_flows(is_followed).await?;
            let told = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                changed = followers.changed() => {
                    if changed.is_err() { return Ok(()) }
                    continue;
                }
                told = events.next(BATCH) => told?,
            };
            let clocks = Clocks {
                since_boot: Duration::from_millis(clock::since_boot()),
                now: Timestamp::now(),
            };
            for event in told {
                let flow = names.flow(&event, clocks);
                if flow.event == FlowEvent::Dropped {
                    // Whoever writes Events is behind: one more wouldn't say more.
                    let _ = drops.try_send(flow.clone());
                }
                self.flows.push(flow);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Numbers of the network part.
    pub(super) async fn metrics_text(&self) -> String {
        let mut text = String::new();
        let counts = self.counters.counts();
        for (name, help, value) in [
            ("cni_adds_total", "Pods attached", counts.adds),
            ("cni_dels_total", "Pods detached", counts.dels),
            (
                "cni_failures_total",
                "Calls of the CNI plugin that failed",
                counts.failures,
            ),
            (
                "kernel_writes_total",
                "Writes to the kernel",
                counts.kernel_writes,
            ),
            (
                "plan_failures_total",
                "Plans that the kernel refused",
                counts.apply_failures,
            ),
            (
                "policy_failures_total",
                "Changes of policies that the kernel refused",
                counts.policy_failures,
            ),
        ] {
            head(&mut text, name, help, "counter");
            let _ = writeln!(text, "ripstop_{name} {value}");
        }
        head(&mut text, "attachments", "Pods that are attached", "gauge");
        let _ = writeln!(text, "ripstop_attachments {}", self.held().attachments.len());
        match self.kernel.policy_counts().await {
            Ok(counts) => self.policy_metrics(&counts, &mut text),
            Err(error) => debug!(%error, "what policies have counted can't be read"),
        }
        text
    }

    fn policy_metrics(&self, counts: &PolicyCounts, text: &mut String) {
        let (allowed, denied) = (
            counts.allowed.iter().map(|(rule, count)| (*rule, *count)),
            counts.denied.iter().map(|(set, count)| (*set, *count)),
        );
        let named = self.policies.with_index(|index| {
            let allowed = allowed.filter_map(|(rule, count)| Some((index.rule_name(rule)?, count)));
            let denied = denied.filter_map(|(set, count)| Some((index.set_name(set)?, count)));
            (allowed.collect::<Vec<_>>(), denied.collect::<Vec<_>>())
        });
        let (allowed, denied) = named.unwrap_or_default();
        head(
            text,
            "policy_allowed_total",
            "Conversations that a rule allowed",
            "counter",
        );
        for (rule, count) in allowed {
            let (policy, direction, index) = (&rule.policy, rule.direction, rule.index);
            let labels = format!("policy=\"{policy}\",direction=\"{direction}\",rule=\"{index}\"");
            let _ = writeln!(text, "ripstop_policy_allowed_total{{{labels}}} {count}");
        }
        let help = "Packets that no rule of these policies allowed";
        head(text, "policy_dropped_packets_total", help, "counter");
        for (set, count) in denied {
            let policies: Vec<String> = set.policies.iter().map(ToString::to_string).collect();
            let labels = format!(
                "policies=\"{}\",direction=\"{}\"",
                policies.join(","),
                set.direction
            );
            let _ = writeln!(text, "ripstop_policy_dropped_packets_total{{{labels}}} {count}");
        }
        let help = "Events of conversations that were too many to be told";
        head(text, "flow_events_lost_total", help, "counter");
        let _ = writeln!(text, "ripstop_flow_events_lost_total {}", counts.lost);
    }
}

// A String takes everything that is written to it.
fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = write!(
        text,
        "# HELP ripstop_{name} {help}\n# TYPE ripstop_{name} {kind}\n"
    );
}
