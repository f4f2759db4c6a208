//! The rules of Nodes.

use quantity::Quantity;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, names};
use crate::json::{entries, list, text};

pub(crate) fn rules(errors: &mut Errors, node: &Value, old: Option<&Value>) {
    let spec = Field::root().child("spec");
    taints(errors, node, &spec.child("taints"));
    pod_cidrs(errors, node, &spec.child("podCIDRs"));
    resources(errors, node);
    if let Some(old) = old {
        changed(errors, node, old, &spec);
    }
}

fn taints(errors: &mut Errors, node: &Value, path: &Field) {
    let mut seen = BTreeSet::new();
    for (index, taint) in list(node, "/spec/taints").iter().enumerate() {
        let path = path.index(index);
        let (key, value, effect) = (text(taint, "/key"), text(taint, "/value"), text(taint, "/effect"));
        errors.invalid_all(&path.child("key"), key, names::qualified(key));
        errors.invalid_all(&path.child("value"), value, names::label_value(value));
        match effect {
            "" => errors.required(&path.child("effect"), ""),
            _ => errors.one_of(
                &path.child("effect"),
                effect,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ),
        }
        if !seen.insert((key, effect)) {
            errors.duplicate(&path, taint.clone());
        }
    }
}

fn pod_cidrs(errors: &mut Errors, node: &Value, path: &Field) {
    let cidrs = list(node, "/spec/podCIDRs");
    let mut families = Vec::new();
    for (index, cidr) in cidrs.iter().enumerate() {
        let text = cidr.as_str().unwrap_or_default();
        errors.invalid_all(&path.index(index), text, addresses::cidr(text));
        families.extend(addresses::Cidr::parse(text).map(|cidr| cidr.address.is_ipv4()));
    }
    if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
        errors.invalid(
            path,
            cidrs.to_vec(),
            "may specify no more than one CIDR for each IP family",
        );
    }
}

fn resources(errors: &mut Errors, node: &Value) {
    for field in ["capacity", "allocatable"] {
        let path = Field::root().child("status").child(field);
        for (name, amount) in entries(node, &format!("/status/{field}")) {
            let amount = amount.as_str().unwrap_or_default();
            if Quantity::parse(amount).is_ok_and(Quantity::is_negative) {
                errors.invalid(&path.key(name), amount, "must be greater than or equal to 0");
            }
        }
    }
}

fn changed(errors: &mut Errors, node: &Value, old: &Value, spec: &Field) {
    let before = list(old, "/spec/podCIDRs");
    if !before.is_empty() && before != list(node, "/spec/podCIDRs") {
        errors.forbidden(
            &spec.child("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        );
    }
    let before = text(old, "/spec/providerID");
    if !before.is_empty() && before != text(node, "/spec/providerID") {
        errors.forbidden(
            &spec.child("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
}
