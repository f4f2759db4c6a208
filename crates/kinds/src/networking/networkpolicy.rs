//! NetworkPolicy.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, names, numbers, selector};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, int, list, list_mut, set_default, text};
use crate::kind::Generation;
use crate::labels;

pub(crate) const KIND: Entry = Entry {
    short_names: &["netpol"],
    generation: Generation::Content,
    default,
    rules,
    columns: &[
        columns::NAME,
        column("Pod-Selector", "string", "The pods that the policy isolates."),
        columns::AGE,
    ],
    row: |policy, now| {
        vec![
            columns::name(policy),
            labels::format_selector(&policy["spec"]["podSelector"]).into(),
            columns::age(policy, now),
        ]
    },
    ..Entry::namespaced::<NetworkPolicy>("networkpolicy")
};

/// The list of rules of each direction, and of peers in it.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

fn default(policy: &mut Value) {
    set_default(policy, "spec", json!({}));
    let spec = &mut policy["spec"];
    set_default(spec, "podSelector", json!({}));
    for (direction, _) in DIRECTIONS {
        for rule in list_mut(spec, &format!("/{direction}")) {
            list_mut(rule, "/ports").for_each(|port| set_default(port, "protocol", "TCP"));
        }
    }
    if list(spec, "/policyTypes").is_empty() {
        let egress = !list(spec, "/egress").is_empty();
        let types: &[&str] = if egress {
            &["Ingress", "Egress"]
        } else {
            &["Ingress"]
        };
        spec["policyTypes"] = types.into();
    }
}

fn rules(errors: &mut Errors, policy: &Value, _old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &policy["spec"];
    selector::selector(errors, &spec["podSelector"], &path.child("podSelector"));
    for (direction, peers) in DIRECTIONS {
        for (index, rule) in list(spec, &format!("/{direction}")).iter().enumerate() {
            let path = path.child(direction).index(index);
            for (index, entry) in list(rule, "/ports").iter().enumerate() {
                port(errors, entry, &path.child("ports").index(index));
            }
            for (index, entry) in list(rule, &format!("/{peers}")).iter().enumerate() {
                peer(errors, entry, &path.child(peers).index(index));
            }
        }
    }
    let types = list(spec, "/policyTypes");
    let path = path.child("policyTypes");
    if types.len() > 2 {
        return errors.invalid(&path, types.to_vec(), "may not specify more than two policyTypes");
    }
    for (index, kind) in types.iter().enumerate() {
        let kind = kind.as_str().unwrap_or_default();
        errors.one_of(&path.index(index), kind, &["Ingress", "Egress"]);
    }
}

fn port(errors: &mut Errors, port: &Value, path: &Field) {
    let protocol = text(port, "/protocol");
    errors.one_of(&path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    let end = int(port, "/endPort");
    let end_path = path.child("endPort");
    match at(port, "/port") {
        Some(Value::String(name)) => {
            if let Some(end) = end {
                errors.invalid(&end_path, end, "may not be specified when `port` is non-numeric");
            }
            errors.invalid_all(&path.child("port"), name, names::port(name));
        }
        Some(first) => {
            let first = first.as_i64().unwrap_or_default();
            numbers::port(errors, Some(first), &path.child("port"));
            if end.is_some_and(|end| end < first) {
                errors.invalid(&end_path, first, "must be greater than or equal to `port`");
            }
            numbers::port(errors, end, &end_path);
        }
        None => {
            if let Some(end) = end {
                errors.invalid(
                    &end_path,
                    end,
                    "may not be specified when `port` is not specified",
                );
            }
        }
    }
}

fn peer(errors: &mut Errors, peer: &Value, path: &Field) {
    let mut selectors = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(value) = at(peer, &format!("/{field}")) {
            selectors += 1;
            selector::selector(errors, value, &path.child(field));
        }
    }
    let block = at(peer, "/ipBlock");
    if let Some(block) = block {
        ip_block(errors, block, &path.child("ipBlock"));
    }
    match (selectors, block) {
        (0, None) => errors.required(path, "must specify a peer"),
        (1.., Some(_)) => errors.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn ip_block(errors: &mut Errors, block: &Value, path: &Field) {
    let cidr = text(block, "/cidr");
    if cidr.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    errors.invalid_all(&path.child("cidr"), cidr, addresses::cidr(cidr));
    let Some(outer) = addresses::Cidr::parse(cidr) else {
        return;
    };
    for (index, except) in list(block, "/except").iter().enumerate() {
        let except = except.as_str().unwrap_or_default();
        let path = path.child("except").index(index);
        errors.invalid_all(&path, except, addresses::cidr(except));
        if addresses::Cidr::parse(except).is_some_and(|inner| !outer.strictly_contains(inner)) {
            errors.invalid(&path, except, "must be a strict subset of `cidr`");
        }
    }
}
