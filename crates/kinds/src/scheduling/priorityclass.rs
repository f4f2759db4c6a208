//! PriorityClass.

use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::columns::{self, column, wide};
use crate::entry::Entry;
use crate::json::{at, flag, int, set_default, text};
use crate::kind::Generation;

pub(crate) const KIND: Entry = Entry {
    short_names: &["pc"],
    generation: Generation::Content,
    default: |class| set_default(class, "preemptionPolicy", "PreemptLowerPriority"),
    rules,
    columns: &[
        columns::NAME,
        column("Value", "integer", "The priority of pods of this class."),
        column(
            "Global-Default",
            "boolean",
            "Whether pods without a class get this one.",
        ),
        columns::AGE,
        wide(
            "PreemptionPolicy",
            "string",
            "Whether pods of this class drive others out.",
        ),
    ],
    row: |class, now| {
        vec![
            columns::name(class),
            int(class, "/value").unwrap_or_default().into(),
            flag(class, "/globalDefault").into(),
            columns::age(class, now),
            text(class, "/preemptionPolicy").into(),
        ]
    },
    ..Entry::cluster::<PriorityClass>("priorityclass")
};

/// The classes that Kubernetes itself has.
const SYSTEM: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

fn rules(errors: &mut Errors, class: &Value, old: Option<&Value>) {
    const HIGHEST: i64 = 1_000_000_000;
    let root = Field::root();
    let (name, value) = (
        text(class, "/metadata/name"),
        int(class, "/value").unwrap_or_default(),
    );
    if name.starts_with("system-") {
        if !SYSTEM.contains(&(name, value)) || flag(class, "/globalDefault") {
            errors.forbidden(
                &root.child("metadata").child("name"),
                &format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
                ),
            );
        }
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.forbidden(&root.child("value"), &detail);
    }
    let policy = text(class, "/preemptionPolicy");
    let field = root.child("preemptionPolicy");
    errors.one_of(&field, policy, &["Never", "PreemptLowerPriority"]);
    if let Some(old) = old {
        if int(old, "/value").unwrap_or_default() != value {
            errors.forbidden(&root.child("value"), "may not be changed in an update.");
        }
        let policy = "/preemptionPolicy";
        errors.immutable(&field, at(class, policy), at(old, policy));
    }
}
