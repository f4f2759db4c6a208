//! A pod's quality of service class, from its containers' requests and limits.

use quantity::Quantity;
use serde_json::Value;

use crate::json::list;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Value) -> &'static str {
    let whole = pod
        .get("spec")
        .filter(|spec| spec.get("resources").is_some_and(|r| *r != serde_json::json!({})));
    let containers = match whole {
        // Resources of the pod as a whole say it all.
        Some(spec) => std::slice::from_ref(spec).iter().chain(&[]),
        None => list(pod, "/spec/containers")
            .iter()
            .chain(list(pod, "/spec/initContainers")),
    };
    let mut guaranteed = true;
    let mut best_effort = true;
    for container in containers {
        let amount = |kind: &str, resource: &str| {
            let text = container
                .pointer(&format!("/resources/{kind}/{resource}"))?
                .as_str()?;
            Quantity::parse(text).ok().filter(|quantity| !quantity.is_zero())
        };
        for resource in ["cpu", "memory"] {
            let (request, limit) = (amount("requests", resource), amount("limits", resource));
            best_effort &= request.is_none() && limit.is_none();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (best_effort, guaranteed) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}
