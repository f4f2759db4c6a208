//! From Services to the kernel, one Service at a time.
//!
//! ```text
//! Catalogue ──changed names──► plan_service ──► part ──► DataPlane
//!     the node's plan ──► ServiceContext ─┘  (another one: all Services anew)
//!     nodes that don't answer ─┘             (others: Services with endpoints there)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::ServiceName;
use plan::{Part, PartId, ServiceContext};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::counters::count;
use super::{DataPlane, Network};
use crate::backoff::Backoff;
use crate::services::Catalogue;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// Which Services a change is about.
#[derive(Debug)]
pub enum Services {
    /// All there are: others are no more.
    All(BTreeMap<ServiceName, Part>),
    /// These; without a part they are no more.
    Some(BTreeMap<ServiceName, Option<Part>>),
}

/// How far the follower is.
#[derive(Debug, Default)]
struct Progress {
    /// What the parts in the kernel were planned with; none before the first ones are there.
    context: Option<ServiceContext>,
    /// What has to be written again.
    failed: BTreeSet<ServiceName>,
    /// Whether everything has.
    all_failed: bool,
    said: String,
}

impl<D: DataPlane> Network<D> {
    /// Applies Services as they change, until `shutdown`. What fails is tried again.
    pub async fn follow_services(&self, catalogue: Arc<Catalogue>, shutdown: CancellationToken) {
        let mut changes = catalogue.changes();
        let mut contexts = self.context.subscribe();
        let mut unreachable = self.unreachable.subscribe();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        let mut progress = Progress::default();
        loop {
            changes.mark_unchanged();
            let silent = unreachable.borrow_and_update().clone();
            let context = contexts.borrow_and_update().clone();
            let context = context.map(|context| context.with_unreachable(silent));
            let mut retry = None;
            if let Some(context) = context
                && let Some(changed) = catalogue.take_changed()
            {
                if self
                    .take_services(&catalogue, context, changed, &mut progress)
                    .await
                {
                    backoff.reset();
                } else {
                    retry = Some(backoff.next());
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                // If nobody publishes any more the agent is ending.
                changed = changes.changed() => if changed.is_err() { return },
                changed = contexts.changed() => if changed.is_err() { return },
                changed = unreachable.changed() => if changed.is_err() { return },
                () = super::follow::pause(retry) => {}
            }
        }
    }

    /// Plans and writes what changed; false if something has to be tried again.
    async fn take_services(
        &self,
        catalogue: &Catalogue,
        context: ServiceContext,
        changed: BTreeSet<ServiceName>,
        progress: &mut Progress,
    ) -> bool {
        let started = Instant::now();
        let before = progress.context.as_ref().filter(|_| !progress.all_failed);
        let turned = before.and_then(|before| context.turned_since(before));
        let all = turned.is_none();
        let services = if all {
            let names = catalogue.names().into_iter();
            Services::All(
                names
                    .filter_map(|name| {
                        let part = plan::plan_service(&name, &catalogue.get(&name)?, &context);
                        Some((name, part))
                    })
                    .collect(),
            )
        } else {
            let mut names = catalogue.on_nodes(&turned.unwrap_or_default());
            names.extend(changed.into_iter().chain(progress.failed.iter().cloned()));
            let parts: BTreeMap<ServiceName, Option<Part>> = names
                .into_iter()
                .map(|name| {
                    let service = catalogue.get(&name);
                    let part = service.map(|service| plan::plan_service(&name, &service, &context));
                    (name, part)
                })
                .collect();
            if parts.is_empty() {
                progress.context = Some(context);
                return true;
            }
            Services::Some(parts)
        };
        services.tell_notes(catalogue);
        progress.context = Some(context);
        match self.kernel.apply_services(&services).await {
            Ok(applied) => {
                count(&self.counters.kernel_writes, applied.writes);
                if all {
                    let took = started.elapsed();
                    info!(
                        writes = applied.writes,
                        services = services.len(),
                        ?took,
                        "Services are as planned"
                    );
                } else {
                    let took = started.elapsed();
                    debug!(
                        writes = applied.writes,
                        services = services.len(),
                        ?took,
                        "Services changed"
                    );
                }
                progress.note(applied.failures)
            }
            Err(error) => {
                progress.all_failed = true;
                progress.say(error.to_string());
                count(&self.counters.apply_failures, 1);
                false
            }
        }
    }
}

impl Services {
    fn len(&self) -> usize {
        match self {
            Services::All(parts) => parts.len(),
            Services::Some(parts) => parts.len(),
        }
    }

    /// Tells what couldn't be planned.
    fn tell_notes(&self, catalogue: &Catalogue) {
        let tell = |name: &ServiceName, part: &Part| catalogue.note(name, &part.notes);
        match self {
            Services::All(parts) => parts.iter().for_each(|(name, part)| tell(name, part)),
            Services::Some(parts) => parts
                .iter()
                .filter_map(|(name, part)| Some((name, part.as_ref()?)))
                .for_each(|(name, part)| tell(name, part)),
        }
    }
}

impl Progress {
    /// Keeps what has to be written again; true if nothing.
    fn note(&mut self, failures: Vec<(PartId, kernel::Error)>) -> bool {
        let texts: Vec<String> = failures
            .iter()
            .map(|(part, error)| format!("{part}: {error}"))
            .collect();
        self.failed.clear();
        self.all_failed = false;
        for (part, _) in failures {
            match part {
                PartId::Service(name) => drop(self.failed.insert(name)),
                _ => self.all_failed = true,
            }
        }
        if texts.is_empty() {
            self.said.clear();
            return true;
        }
        self.say(texts.join("; "));
        false
    }

    fn say(&mut self, text: String) {
        if self.said == text {
            debug!(error = text, "Services still aren't as planned");
        } else {
            warn!(error = text, "Services aren't as planned; trying until they are");
            self.said = text;
        }
    }
}
