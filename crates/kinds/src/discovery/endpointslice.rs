//! EndpointSlice: some of a Service's endpoints.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, meta, names};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, entries, int, list, list_mut, set_default, text};
use crate::kind::{Column, Generation};

pub(crate) const KIND: Entry = Entry {
    generation: Generation::ContentAndLabels,
    default,
    rules,
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<EndpointSlice>("endpointslice")
};

fn default(slice: &mut Value) {
    for port in list_mut(slice, "/ports") {
        set_default(port, "name", "");
        set_default(port, "protocol", "TCP");
    }
    for endpoint in list_mut(slice, "/endpoints") {
        set_default(endpoint, "conditions", json!({}));
    }
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("AddressType", "string", "What the addresses are."),
    column("Ports", "string", "The ports of every endpoint."),
    column("Endpoints", "string", "The addresses of the endpoints."),
    columns::AGE,
];

fn row(slice: &Value, now: i64) -> Vec<Value> {
    let ports = list(slice, "/ports").iter().map(|port| match int(port, "/port") {
        Some(number) => number.to_string(),
        None => at(port, "/name")
            .map_or("*", |name| name.as_str().unwrap_or_default())
            .to_owned(),
    });
    let endpoints = list(slice, "/endpoints").iter();
    let addresses = endpoints.flat_map(|endpoint| list(endpoint, "/addresses"));
    let addresses = addresses.map(|address| address.as_str().unwrap_or_default().to_owned());
    vec![
        columns::name(slice),
        text(slice, "/addressType").into(),
        columns::first_few(ports, "<unset>").into(),
        columns::first_few(addresses, "<unset>").into(),
        columns::age(slice, now),
    ]
}

fn rules(errors: &mut Errors, slice: &Value, old: Option<&Value>) {
    let root = Field::root();
    match text(slice, "/addressType") {
        "" => errors.required(&root.child("addressType"), ""),
        kind => errors.one_of(&root.child("addressType"), kind, &["FQDN", "IPv4", "IPv6"]),
    }
    ports(errors, list(slice, "/ports"), &root.child("ports"));
    endpoints(errors, slice, &root.child("endpoints"));
    if let Some(old) = old {
        let (new, old) = (at(slice, "/addressType"), at(old, "/addressType"));
        errors.immutable(&root.child("addressType"), new, old);
    }
}

fn ports(errors: &mut Errors, ports: &[Value], path: &Field) {
    const MOST: usize = 20_000;
    if ports.len() > MOST {
        return errors.too_many(path, ports.len(), MOST);
    }
    let mut seen = std::collections::HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "/name");
        if !name.is_empty() {
            errors.invalid_all(&path.child("name"), name, names::label(name));
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        let protocol = text(port, "/protocol");
        errors.one_of(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        if let Some(protocol) = at(port, "/appProtocol").and_then(Value::as_str) {
            errors.invalid_all(&path.child("appProtocol"), protocol, names::qualified(protocol));
        }
    }
}

fn endpoints(errors: &mut Errors, slice: &Value, path: &Field) {
    const MOST: usize = 1000;
    let endpoints = list(slice, "/endpoints");
    if endpoints.len() > MOST {
        return errors.too_many(path, endpoints.len(), MOST);
    }
    for (index, entry) in endpoints.iter().enumerate() {
        endpoint(errors, entry, text(slice, "/addressType"), &path.index(index));
    }
}

fn endpoint(errors: &mut Errors, endpoint: &Value, address_type: &str, path: &Field) {
    const MOST_ADDRESSES: usize = 100;
    const MOST_LABELS: usize = 16;
    let addresses = list(endpoint, "/addresses");
    let field = path.child("addresses");
    match addresses.len() {
        0 => errors.required(&field, "must contain at least 1 address"),
        count if count > MOST_ADDRESSES => errors.too_many(&field, count, MOST_ADDRESSES),
        _ => {}
    }
    for (index, value) in addresses.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        address(errors, value, address_type, &field, &field.index(index));
    }
    if let Some(node) = at(endpoint, "/nodeName").and_then(Value::as_str) {
        errors.invalid_all(&path.child("nodeName"), node, names::subdomain(node));
    }
    let topology = path.child("deprecatedTopology");
    let count = entries(endpoint, "/deprecatedTopology").count();
    if count > MOST_LABELS {
        errors.too_many(&topology, count, MOST_LABELS);
    }
    meta::labels(errors, endpoint, "/deprecatedTopology", &topology);
    if let Some(name) = at(endpoint, "/hostname").and_then(Value::as_str) {
        errors.invalid_all(&path.child("hostname"), name, names::label(name));
    }
    for (field, check) in [
        ("forZones", names::label_value as names::Check),
        ("forNodes", names::subdomain),
    ] {
        let hints = list(endpoint, &format!("/hints/{field}"));
        self::hints(errors, hints, check, &path.child("hints").child(field));
    }
}

fn address(errors: &mut Errors, address: &str, kind: &str, all: &Field, path: &Field) {
    let (family, is_family, messages) = match kind {
        "IPv4" => ("IPv4", address.contains('.'), addresses::ip(address)),
        "IPv6" => ("IPv6", address.contains(':'), addresses::canonical_ip(address)),
        "FQDN" => return names::fully_qualified(errors, address, path),
        _ => return,
    };
    if !messages.is_empty() {
        return errors.invalid_all(path, address, messages);
    }
    if !is_family {
        errors.invalid(all, address, &format!("must be an {family} address"));
    }
    errors.invalid_all(path, address, addresses::endpoint(address));
}

fn hints(errors: &mut Errors, hints: &[Value], check: names::Check, path: &Field) {
    const MOST: usize = 8;
    if hints.len() > MOST {
        return errors.too_many(path, hints.len(), MOST);
    }
    for (index, hint) in hints.iter().enumerate() {
        let path = path.index(index).child("name");
        let name = text(hint, "/name");
        if hints[..index].iter().any(|other| text(other, "/name") == name) {
            errors.duplicate(&path, name);
        }
        errors.invalid_all(&path, name, check(name));
    }
}
