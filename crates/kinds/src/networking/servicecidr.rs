//! ServiceCIDR: the ranges that Services get their addresses from.

use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};

use crate::check::addresses::{self, Cidr};
use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{list, set_default};

pub(crate) const KIND: Entry = Entry {
    status: true,
    default: |cidr| {
        set_default(cidr, "spec", json!({}));
        set_default(cidr, "status", json!({}));
    },
    rules,
    columns: &[
        columns::NAME,
        column("CIDRs", "string", "The ranges, one for each IP family."),
        columns::AGE,
    ],
    row: |cidr, now| {
        let ranges: Vec<_> = ranges(cidr).collect();
        vec![
            columns::name(cidr),
            ranges.join(",").into(),
            columns::age(cidr, now),
        ]
    },
    ..Entry::cluster::<ServiceCIDR>("servicecidr")
};

fn ranges(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "/spec/cidrs").iter().filter_map(Value::as_str)
}

fn rules(errors: &mut Errors, object: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec").child("cidrs");
    let new: Vec<_> = ranges(object).collect();
    let Some(old) = old else {
        return cidrs(errors, &new, &path);
    };
    let old: Vec<_> = ranges(old).collect();
    // The other family may be added, and that is all.
    match (old.len(), new.len()) {
        (before, after) if before == after || (before, after) == (1, 2) => {
            for (index, (new, old)) in new.iter().zip(&old).enumerate() {
                errors.immutable(&path.index(index), Some(&json!(new)), Some(&json!(old)));
            }
            if before != after {
                cidrs(errors, &new, &path);
            }
        }
        _ => errors.invalid(&path, new, "field is immutable"),
    }
}

fn cidrs(errors: &mut Errors, cidrs: &[&str], path: &Field) {
    match cidrs.len() {
        0 => return errors.required(path, "at least one CIDR required"),
        1 | 2 => {}
        _ => {
            let value = json!({ "cidrs": cidrs });
            return errors.invalid(path, value, "may only hold up to 2 values");
        }
    }
    for (index, cidr) in cidrs.iter().enumerate() {
        errors.invalid_all(&path.index(index), cidr, addresses::canonical_cidr(cidr));
    }
    if let [first, second] = cidrs
        && let (Some(first), Some(second)) = (Cidr::parse(first), Cidr::parse(second))
        && first.address.is_ipv4() == second.address.is_ipv4()
    {
        errors.invalid(
            path,
            cidrs.to_vec(),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        );
    }
}
