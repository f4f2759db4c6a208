//! Ingress.

use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use crate::columns::{self, column, or_none};
use crate::entry::Entry;
use crate::json::{list, set_default, text};
use crate::kind::{Column, Generation};
use crate::networking::ingress_validation;

pub(crate) const KIND: Entry = Entry {
    short_names: &["ing"],
    status: true,
    generation: Generation::Content,
    default,
    rules: ingress_validation::rules,
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<Ingress>("ingress")
};

fn default(ingress: &mut Value) {
    set_default(ingress, "spec", json!({}));
    set_default(ingress, "status", json!({}));
    set_default(&mut ingress["status"], "loadBalancer", json!({}));
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Class", "string", "The IngressClass that serves this Ingress."),
    column("Hosts", "string", "The hosts that the rules are for."),
    column("Address", "string", "Where clients reach the Ingress."),
    column(
        "Ports",
        "string",
        "The ports that are open: with TLS, 443 as well.",
    ),
    columns::AGE,
];

fn row(ingress: &Value, now: i64) -> Vec<Value> {
    let tls = !list(ingress, "/spec/tls").is_empty();
    vec![
        columns::name(ingress),
        or_none(text(ingress, "/spec/ingressClassName")),
        hosts(list(ingress, "/spec/rules")).into(),
        columns::load_balancer(ingress).into(),
        if tls { "80, 443" } else { "80" }.into(),
        columns::age(ingress, now),
    ]
}

/// The first three hosts, and how many more rules there are.
fn hosts(rules: &[Value]) -> String {
    const SHOWN: usize = 3;
    let hosts = rules.iter().map(|rule| text(rule, "/host"));
    let mut named = hosts.enumerate().filter(|(_, host)| !host.is_empty());
    let shown: Vec<_> = named.by_ref().take(SHOWN).collect();
    let Some(&(last, _)) = shown.last() else {
        return "*".to_owned();
    };
    let text = shown.iter().map(|(_, host)| *host).collect::<Vec<_>>().join(",");
    // As kubectl counts: rules after the third host, whether they have hosts or not.
    if shown.len() == SHOWN && last + 1 < rules.len() {
        format!("{text} + {} more...", rules.len() - SHOWN)
    } else {
        text
    }
}
