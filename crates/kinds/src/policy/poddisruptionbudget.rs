//! PodDisruptionBudget.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{numbers, selector};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, int, set_default};
use crate::kind::Generation;

pub(crate) const KIND: Entry = Entry {
    short_names: &["pdb"],
    status: true,
    generation: Generation::Content,
    default: |budget| {
        set_default(budget, "spec", json!({}));
        set_default(budget, "status", json!({}));
        for field in COUNTS {
            set_default(&mut budget["status"], field, 0);
        }
    },
    rules,
    columns: &[
        columns::NAME,
        column(
            "Min Available",
            "string",
            "The minimum number of pods that must be available.",
        ),
        column(
            "Max Unavailable",
            "string",
            "The maximum number of pods that may be unavailable.",
        ),
        column(
            "Allowed Disruptions",
            "integer",
            "Calculated number of pods that may be disrupted at this time.",
        ),
        columns::AGE,
    ],
    row: |budget, now| {
        let amount = |field: &str| match &budget["spec"][field] {
            Value::String(percent) => percent.clone(),
            Value::Number(number) => number.to_string(),
            _ => "N/A".to_owned(),
        };
        vec![
            columns::name(budget),
            amount("minAvailable").into(),
            amount("maxUnavailable").into(),
            int(budget, "/status/disruptionsAllowed")
                .unwrap_or_default()
                .into(),
            columns::age(budget, now),
        ]
    },
    ..Entry::namespaced::<PodDisruptionBudget>("poddisruptionbudget")
};

/// Always there in a status.
const COUNTS: [&str; 4] = [
    "currentHealthy",
    "desiredHealthy",
    "disruptionsAllowed",
    "expectedPods",
];

fn rules(errors: &mut Errors, budget: &Value, _old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &budget["spec"];
    let amounts = ["minAvailable", "maxUnavailable"].map(|field| (field, at(spec, &format!("/{field}"))));
    if amounts.iter().all(|(_, amount)| amount.is_some()) {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid(&path, spec.clone(), detail);
    }
    for (field, amount) in amounts {
        if let Some(amount) = amount {
            numbers::int_or_percent(errors, amount, &path.child(field));
            numbers::at_most_all(errors, amount, &path.child(field));
        }
    }
    selector::selector(errors, &spec["selector"], &path.child("selector"));
    if let Some(policy) = at(spec, "/unhealthyPodEvictionPolicy").and_then(Value::as_str) {
        let field = path.child("unhealthyPodEvictionPolicy");
        errors.one_of(&field, policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
    for field in COUNTS {
        let count = int(budget, &format!("/status/{field}"));
        errors.not_negative(&Field::root().child("status").child(field), count);
    }
}
