//! LimitRange.

use quantity::Quantity;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::LimitRange;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{entries, list, list_mut, set_default, text};
use crate::kind::{DecodeError, Decoded};
use crate::{decode, pod};

pub(crate) const KIND: Entry = Entry {
    short_names: &["limits"],
    decode,
    default,
    rules,
    columns: &[
        columns::NAME,
        column("Created At", "date", "When the object was created."),
    ],
    row: |range, _| {
        vec![
            columns::name(range),
            text(range, "/metadata/creationTimestamp").into(),
        ]
    },
    ..Entry::namespaced::<LimitRange>("limitrange")
};

const AMOUNTS: [&str; 5] = ["default", "defaultRequest", "max", "maxLimitRequestRatio", "min"];

fn decode(raw: &Value) -> Result<Decoded, DecodeError> {
    let mut decoded = decode::typed::<LimitRange>(raw)?;
    for (index, limit) in list_mut(&mut decoded.object, "/spec/limits").enumerate() {
        for field in AMOUNTS {
            let path = format!("spec.limits[{index}].{field}");
            pod::quantities::map(limit, &format!("/{field}"), &path)?;
        }
    }
    Ok(decoded)
}

/// A container's defaults come from its bounds: the limit from the highest, the request from the limit or
/// the lowest.
fn default(range: &mut Value) {
    set_default(range, "spec", json!({}));
    set_default(&mut range["spec"], "limits", json!([]));
    for limit in list_mut(range, "/spec/limits") {
        if text(limit, "/type") != "Container" {
            continue;
        }
        for (to, from) in [
            ("default", "max"),
            ("defaultRequest", "default"),
            ("defaultRequest", "min"),
        ] {
            let amounts: Vec<_> = entries(limit, &format!("/{from}"))
                .map(|(name, amount)| (name.clone(), amount.clone()))
                .collect();
            for (name, amount) in amounts {
                set_default(limit, to, json!({}));
                set_default(&mut limit[to], &name, amount);
            }
        }
    }
}

fn rules(errors: &mut Errors, range: &Value, _old: Option<&Value>) {
    let path = Field::root().child("spec").child("limits");
    let limits = list(range, "/spec/limits");
    for (index, entry) in limits.iter().enumerate() {
        let path = path.index(index);
        let kind = text(entry, "/type");
        errors.invalid_all(&path.child("type"), kind, names::qualified(kind));
        if limits[..index].iter().any(|other| text(other, "/type") == kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        limit(errors, entry, kind, &path);
    }
}

fn limit(errors: &mut Errors, limit: &Value, kind: &str, path: &Field) {
    if kind == "Pod" {
        for field in ["default", "defaultRequest"] {
            if entries(limit, &format!("/{field}")).next().is_some() {
                errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
            }
        }
    }
    let storage = ["min", "max"]
        .iter()
        .any(|field| limit[field].get("storage").is_some());
    if kind == "PersistentVolumeClaim" && !storage {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    let amounts = AMOUNTS.iter().filter_map(|field| limit[field].as_object());
    let names: BTreeSet<&String> = amounts.flat_map(|amounts| amounts.keys()).collect();
    for name in names {
        if !name.contains('/') && !is_standard(name) {
            errors.invalid(
                &path.key(name),
                name.as_str(),
                "must be a standard limit type or fully qualified",
            );
        }
        orders(errors, limit, name, path);
    }
}

fn is_standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage") || name.starts_with("hugepages-")
}

/// Lowest, default request, default limit and highest, in this order.
fn orders(errors: &mut Errors, limit: &Value, name: &str, path: &Field) {
    const ORDERS: [(&str, &str, &str, &str, &str); 6] = [
        ("min", "max", "min", "min value", "max value"),
        (
            "min",
            "defaultRequest",
            "defaultRequest",
            "min value",
            "default request value",
        ),
        (
            "defaultRequest",
            "max",
            "defaultRequest",
            "default request value",
            "max value",
        ),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "default request value",
            "default limit value",
        ),
        ("min", "default", "default", "min value", "default value"),
        ("default", "max", "default", "default value", "max value"),
    ];
    let amount = |field: &str| Quantity::parse(limit[field][name].as_str()?).ok();
    for (low, high, at, low_text, high_text) in ORDERS {
        let (Some(low), Some(high)) = (amount(low), amount(high)) else {
            continue;
        };
        if low > high {
            let (low, high) = (low.canonical(), high.canonical());
            let found = amount(at).map(Quantity::canonical).unwrap_or_default();
            let detail = format!("{low_text} {low} is greater than {high_text} {high}");
            errors.invalid(&path.child(at).key(name), found, &detail);
        }
    }
    if let Some(ratio) = amount("maxLimitRequestRatio").filter(|ratio| *ratio < Quantity::whole(1)) {
        let ratio = ratio.canonical();
        let detail = format!("ratio {ratio} is less than 1");
        errors.invalid(&path.child("maxLimitRequestRatio").key(name), ratio, &detail);
    }
}
