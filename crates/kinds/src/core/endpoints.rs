//! Endpoints.

use k8s_openapi::api::core::v1::Endpoints;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, names, numbers};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{int, list, list_mut, set_default_text, text};

pub(crate) const KIND: Entry = Entry {
    short_names: &["ep"],
    default: |endpoints| {
        for subset in list_mut(endpoints, "/subsets") {
            for port in list_mut(subset, "/ports") {
                set_default_text(port, "protocol", "TCP");
            }
        }
    },
    rules,
    columns: &[
        columns::NAME,
        column(
            "Endpoints",
            "string",
            "The addresses and ports that implement the Service.",
        ),
        columns::AGE,
    ],
    row: |endpoints, now| {
        vec![
            columns::name(endpoints),
            addresses(endpoints).into(),
            columns::age(endpoints, now),
        ]
    },
    ..Entry::namespaced::<Endpoints>("endpoints")
};

fn addresses(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let addresses = list(subset, "/addresses").iter();
        let ips = addresses.map(|address| text(address, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            all.extend(ips.clone().map(str::to_owned));
        }
        for port in ports {
            let number = int(port, "/port").unwrap_or_default();
            all.extend(ips.clone().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                }
            }));
        }
    }
    columns::first_few(all.into_iter(), "<none>")
}

fn rules(errors: &mut Errors, endpoints: &Value, _old: Option<&Value>) {
    for (index, subset) in list(endpoints, "/subsets").iter().enumerate() {
        let path = Field::root().child("subsets").index(index);
        if list(subset, "/addresses").is_empty() && list(subset, "/notReadyAddresses").is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (index, entry) in list(subset, &format!("/{field}")).iter().enumerate() {
                address(errors, entry, &path.child(field).index(index));
            }
        }
        let ports = list(subset, "/ports");
        for (index, entry) in ports.iter().enumerate() {
            port(errors, entry, ports.len() > 1, &path.child("ports").index(index));
        }
    }
}

fn address(errors: &mut Errors, address: &Value, path: &Field) {
    let ip = text(address, "/ip");
    errors.invalid_all(&path.child("ip"), ip, addresses::endpoint(ip));
    for field in ["hostname", "nodeName"] {
        let name = text(address, &format!("/{field}"));
        let check = if field == "hostname" {
            names::label
        } else {
            names::subdomain
        };
        if !name.is_empty() {
            errors.invalid_all(&path.child(field), name, check(name));
        }
    }
}

fn port(errors: &mut Errors, port: &Value, require_name: bool, path: &Field) {
    match text(port, "/name") {
        "" if require_name => errors.required(&path.child("name"), ""),
        "" => {}
        name => errors.invalid_all(&path.child("name"), name, names::label(name)),
    }
    numbers::port(errors, int(port, "/port"), &path.child("port"));
    errors.one_of(
        &path.child("protocol"),
        text(port, "/protocol"),
        &["SCTP", "TCP", "UDP"],
    );
}
