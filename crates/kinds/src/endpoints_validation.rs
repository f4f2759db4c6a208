//! The rules of Endpoints.

use serde_json::Value;

use crate::errors::{Errors, Field};
use crate::json::{int, list, text};
use crate::kind::FieldError;
use crate::{addresses, meta_validation, names};

pub(crate) fn validate(endpoints: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta_validation::object(&mut errors, endpoints, old, true, names::subdomain);
    for (index, subset) in list(endpoints, "/subsets").iter().enumerate() {
        let path = Field::root().child("subsets").index(index);
        if list(subset, "/addresses").is_empty() && list(subset, "/notReadyAddresses").is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (index, entry) in list(subset, &format!("/{field}")).iter().enumerate() {
                address(&mut errors, entry, &path.child(field).index(index));
            }
        }
        let ports = list(subset, "/ports");
        for (index, entry) in ports.iter().enumerate() {
            port(
                &mut errors,
                entry,
                ports.len() > 1,
                &path.child("ports").index(index),
            );
        }
    }
    errors.into_list()
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
    errors.in_range(&path.child("port"), int(port, "/port"), 1, 65_535);
    errors.one_of(
        &path.child("protocol"),
        text(port, "/protocol"),
        &["SCTP", "TCP", "UDP"],
    );
}
