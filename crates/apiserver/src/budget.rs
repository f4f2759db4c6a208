//! Whether a pod may be evicted: what PodDisruptionBudgets say.
//!
//! The controller of budgets counts how many disruptions are left; each eviction takes one, in the same
//! transaction that found it there, and names its pod, so that the controller doesn't count that as healthy until
//! it is gone.

use http::StatusCode;
use kinds::Kind;
use serde_json::{Value, json};

use crate::auth::identity::Identity;
use crate::object::{self, list, text};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};
use crate::update::{self, Change, Part, Target};

/// Evictions of one budget that its controller hasn't seen yet.
const MOST_UNSEEN: usize = 2000;
/// When a client may ask again while the budget hasn't been counted.
const UNCOUNTED_RETRY: u64 = 10;
const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// When a pod may be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Whatever becomes of it meanwhile.
    Given,
    /// As long as it is what was looked at: once it runs, or is ready, its end is a disruption.
    AsItIs,
}

/// Takes one disruption from the pod's budget, if it has one and isn't spared.
pub(crate) async fn take(server: &ApiServer, pod: &Value, dry_run: bool) -> Result<Leave, Failure> {
    // What doesn't run yet, has ended, or is going already disturbs nobody.
    let phase = text(pod, "/status/phase");
    let leaving = !text(pod, "/metadata/deletionTimestamp").is_empty();
    match phase {
        "Succeeded" | "Failed" => return Ok(Leave::Given),
        _ if leaving => return Ok(Leave::Given),
        "Pending" => return Ok(Leave::AsItIs),
        _ => {}
    }
    let kind = kinds::find("policy", "v1", "poddisruptionbudgets").expect("the table has budgets");
    let namespace = text(pod, "/metadata/namespace");
    let budgets = of_pod(server, kind, namespace, pod)?;
    let budget = match budgets.as_slice() {
        [] => return Ok(Leave::Given),
        [one] => one,
        _ => {
            return Err(Failure::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    if !counts(budget, pod) {
        return Ok(Leave::AsItIs);
    }
    let identity = Identity::server();
    let target = Target {
        kind,
        namespace: Some(namespace),
        name: text(budget, "/metadata/name"),
        part: Part::Server,
        dry_run,
        manager: "kube-apiserver",
        subresource: "status",
        identity: &identity,
    };
    let name = text(pod, "/metadata/name");
    let taken = update::update(server, target, |budget| {
        let mut budget = budget.clone();
        // Whoever else took one meanwhile is counted when this is tried again.
        object::metadata(&mut budget).remove("resourceVersion");
        take_one(kind, &mut budget, name)?;
        Ok(Change::To(budget))
    });
    taken.await.map(|_| Leave::Given)
}

/// The budgets that a pod falls under.
fn of_pod(server: &ApiServer, kind: &Kind, namespace: &str, pod: &Value) -> Result<Vec<Value>, Failure> {
    let prefix = object::prefix(kind, Some(namespace));
    let range = store::Range {
        prefix: &prefix,
        ..store::Range::default()
    };
    let page = server.store.list(&range, |_| true)?;
    let mut found = Vec::new();
    for entry in page.entries {
        let budget = object::read(kind, &entry.value)?;
        if selects(&budget, pod) {
            found.push(budget);
        }
    }
    Ok(found)
}

/// No selector selects nothing, an empty one everything.
fn selects(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    !selector.is_null() && kinds::selects(selector, &pod["metadata"]["labels"])
}

/// Whether the pod's end is a disruption: one that isn't ready may be spared.
fn counts(budget: &Value, pod: &Value) -> bool {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    if list(pod, "/status/conditions").iter().any(ready) {
        return true;
    }
    if budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" {
        return false;
    }
    // Those that the budget is about are well without it.
    let [healthy, desired] = ["currentHealthy", "desiredHealthy"].map(|field| number(budget, field));
    !(healthy >= desired && desired > 0)
}

fn number(budget: &Value, field: &str) -> i64 {
    budget["status"][field].as_i64().unwrap_or_default()
}

fn take_one(kind: &Kind, budget: &mut Value, pod: &str) -> Result<(), Failure> {
    let name = text(budget, "/metadata/name").to_owned();
    let observed = number(budget, "observedGeneration");
    if observed < budget["metadata"]["generation"].as_i64().unwrap_or_default() {
        let message = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(&message, Some(UNCOUNTED_RETRY)));
    }
    let subject = Subject::of(kind, &name);
    let unseen = budget["status"]["disruptedPods"]
        .as_object()
        .map_or(0, serde_json::Map::len);
    if unseen > MOST_UNSEEN {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Failure::forbidden(subject, why));
    }
    match number(budget, "disruptionsAllowed") {
        allowed if allowed < 0 => Err(Failure::forbidden(subject, "pdb disruptions allowed is negative")),
        0 => Err(refused(&why_none(budget, &name), None)),
        allowed => {
            let status = &mut budget["status"];
            status["disruptionsAllowed"] = json!(allowed - 1);
            status["disruptedPods"][pod] = object::now().into();
            if allowed == 1 {
                insufficient(budget);
            }
            Ok(())
        }
    }
}

fn why_none(budget: &Value, name: &str) -> String {
    let failed = |condition: &&Value| {
        condition["type"] == "DisruptionAllowed"
            && condition["status"] == "False"
            && condition["reason"] == "SyncFailed"
    };
    match list(budget, "/status/conditions").iter().find(failed) {
        Some(condition) => {
            let why = text(condition, "/message");
            format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
            )
        }
        None => {
            let [desired, healthy] = ["desiredHealthy", "currentHealthy"].map(|field| number(budget, field));
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
    }
}

/// The condition of a budget whose last disruption was taken.
fn insufficient(budget: &mut Value) {
    let generation = budget["metadata"]["generation"].clone();
    let mut conditions = list(budget, "/status/conditions").to_vec();
    conditions.retain(|condition| condition["type"] != "DisruptionAllowed");
    conditions.push(json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "lastTransitionTime": object::now(), "observedGeneration": generation,
    }));
    budget["status"]["conditions"] = conditions.into();
}

fn refused(why: &str, retry: Option<u64>) -> Failure {
    let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", REFUSAL);
    let mut failure = failure.cause("DisruptionBudget", why, None);
    if let Some(seconds) = retry {
        failure.details.insert("retryAfterSeconds".into(), seconds.into());
    }
    failure
}
