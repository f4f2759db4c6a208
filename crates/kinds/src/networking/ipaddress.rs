//! IPAddress: an address that is taken, and by whom.

use k8s_openapi::api::networking::v1::IPAddress;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, names, reference};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, set_default, text};

pub(crate) const KIND: Entry = Entry {
    short_names: &["ip"],
    default: |address| set_default(address, "spec", json!({})),
    // Its name is the address.
    name: addresses::canonical_ip,
    rules,
    columns: &[
        columns::NAME,
        column("ParentRef", "string", "The object that has the address."),
    ],
    row: |address, _| vec![columns::name(address), parent(address).into()],
    fields: &[
        ("spec.parentRef.group", |address| {
            text(address, "/spec/parentRef/group").to_owned()
        }),
        ("spec.parentRef.resource", |address| {
            text(address, "/spec/parentRef/resource").to_owned()
        }),
        ("spec.parentRef.namespace", |address| {
            text(address, "/spec/parentRef/namespace").to_owned()
        }),
        ("spec.parentRef.name", |address| {
            text(address, "/spec/parentRef/name").to_owned()
        }),
    ],
    ..Entry::cluster::<IPAddress>("ipaddress")
};

fn parent(address: &Value) -> String {
    let Some(parent) = at(address, "/spec/parentRef") else {
        return "<none>".to_owned();
    };
    let mut text_of_parent = text(parent, "/resource").to_lowercase();
    let group = text(parent, "/group");
    if !group.is_empty() {
        text_of_parent.push('.');
        text_of_parent.push_str(&group.to_lowercase());
    }
    for field in ["/namespace", "/name"] {
        let value = text(parent, field);
        if !value.is_empty() || field == "/name" {
            text_of_parent.push('/');
            text_of_parent.push_str(value);
        }
    }
    text_of_parent
}

fn rules(errors: &mut Errors, address: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec").child("parentRef");
    let parent = at(address, "/spec/parentRef");
    if let Some(old) = old {
        errors.immutable(&path, parent, at(old, "/spec/parentRef"));
    }
    // Its type doesn't tell an empty reference from none.
    let named = |parent: &&Value| {
        ["/resource", "/name"]
            .iter()
            .any(|field| !text(parent, field).is_empty())
    };
    let Some(parent) = parent.filter(named) else {
        return errors.required(&path, "");
    };
    for (field, check) in [
        ("group", names::subdomain as names::Check),
        ("namespace", names::path_segment),
    ] {
        let value = text(parent, &format!("/{field}"));
        if !value.is_empty() {
            errors.invalid_all(&path.child(field), value, check(value));
        }
    }
    for field in ["resource", "name"] {
        reference::segment(errors, parent, field, &path.child(field));
    }
}
