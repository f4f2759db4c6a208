//! PersistentVolumeClaim.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use quantity::Quantity;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{names, selector};
use crate::columns::{self, column, wide};
use crate::core::volume_claim::{self, access_modes, modes_text, or_unset, positive};
use crate::entry::Entry;
use crate::json::{at, object_mut, set, set_default, set_default_text, text};
use crate::kind::{Column, DecodeError};
use crate::{decode, pod};

pub(crate) const KIND: Entry = Entry {
    short_names: &["pvc"],
    status: true,
    decode: |raw| {
        let mut decoded = decode::typed::<PersistentVolumeClaim>(raw)?;
        let object = &mut decoded.object;
        quantities(object, "")?;
        pod::quantities::map(object, "/status/capacity", "status.capacity")?;
        let allocated = "/status/allocatedResources";
        pod::quantities::map(object, allocated, "status.allocatedResources")?;
        Ok(decoded)
    },
    default,
    prepare: |new, old| {
        if old.is_none() {
            data_sources(&mut new["spec"]);
        }
    },
    rules,
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<PersistentVolumeClaim>("persistentvolumeclaim")
};

/// Canonical sizes in a claim, or in a template of one at `path`.
pub(crate) fn quantities(claim: &mut Value, path: &str) -> Result<(), DecodeError> {
    let dot = if path.is_empty() { "" } else { "." };
    for kind in ["requests", "limits"] {
        let pointer = format!("/spec/resources/{kind}");
        let path = format!("{path}{dot}spec.resources.{kind}");
        pod::quantities::map(claim, &pointer, &path)?;
    }
    Ok(())
}

/// Also for claims as templates.
pub(crate) fn default(claim: &mut Value) {
    set_default(claim, "spec", json!({}));
    set_default(&mut claim["spec"], "volumeMode", "Filesystem");
    set_default(claim, "status", json!({}));
    set_default_text(&mut claim["status"], "phase", "Pending");
}

/// `dataSource` and `dataSourceRef` say the same, unless the latter names another namespace.
fn data_sources(spec: &mut Value) {
    match (
        at(spec, "/dataSource").cloned(),
        at(spec, "/dataSourceRef").cloned(),
    ) {
        (Some(source), None) => set(spec, "dataSourceRef", source),
        (None, Some(mut source)) if text(&source, "/namespace").is_empty() => {
            object_mut(&mut source, "").and_then(|source| source.remove("namespace"));
            set(spec, "dataSource", source);
        }
        _ => {}
    }
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Status", "string", "Whether the claim has its volume."),
    column("Volume", "string", "The volume that the claim has."),
    column("Capacity", "string", "How large the volume is."),
    column("Access Modes", "string", "How the volume can be mounted."),
    column(
        "StorageClass",
        "string",
        "The StorageClass that the claim asks for.",
    ),
    column(
        "VolumeAttributesClass",
        "string",
        "The VolumeAttributesClass that the claim asks for.",
    ),
    columns::AGE,
    wide(
        "VolumeMode",
        "string",
        "Whether the volume is a file system or a block device.",
    ),
];

fn row(claim: &Value, now: i64) -> Vec<Value> {
    let volume = text(claim, "/spec/volumeName");
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        let capacity = text(claim, "/status/capacity/storage");
        let capacity = if capacity.is_empty() { "0" } else { capacity };
        (capacity.to_owned(), modes_text(claim, "/status/accessModes"))
    };
    vec![
        columns::name(claim),
        volume_claim::phase(claim).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        volume_claim::class(claim).into(),
        or_unset(claim, "/spec/volumeAttributesClassName").into(),
        columns::age(claim, now),
        or_unset(claim, "/spec/volumeMode").into(),
    ]
}

fn rules(errors: &mut Errors, claim: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    spec(errors, &claim["spec"], &path);
    if let Some(old) = old {
        changed(errors, claim, old, &path);
    }
}

/// Checks a claim's spec, or that of a template.
pub(crate) fn spec(errors: &mut Errors, spec: &Value, path: &Field) {
    access_modes(errors, spec, "at least 1 access mode is required", path);
    if let Some(value) = at(spec, "/selector") {
        selector::selector(errors, value, &path.child("selector"));
    }
    let storage = path.child("resources").key("storage");
    match at(spec, "/resources/requests/storage") {
        None => errors.required(&storage, ""),
        Some(amount) => positive(errors, amount, &storage),
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let class = text(spec, &format!("/{field}"));
        if !class.is_empty() {
            errors.invalid_all(&path.child(field), class, names::subdomain(class));
        }
    }
    let mode = text(spec, "/volumeMode");
    errors.one_of(&path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = at(spec, &format!("/{field}")) {
            data_source(errors, source, &path.child(field));
        }
    }
}

fn data_source(errors: &mut Errors, source: &Value, path: &Field) {
    for field in ["name", "kind"] {
        if text(source, &format!("/{field}")).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let (group, kind) = (text(source, "/apiGroup"), text(source, "/kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid(path, kind, detail);
    }
    if !group.is_empty() {
        errors.invalid_all(&path.child("apiGroup"), group, names::subdomain(group));
    }
    let namespace = text(source, "/namespace");
    if !namespace.is_empty() {
        errors.invalid_all(&path.child("namespace"), namespace, names::label(namespace));
    }
}

/// A claim gets its volume once, and a bound one may ask for more.
fn changed(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    let bound = text(new, "/status/phase") == "Bound";
    let fixed = |claim: &Value| {
        let mut spec = claim["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            if text(old, "/spec/volumeName").is_empty() {
                fields.remove("volumeName");
            }
            if at(old, "/spec/storageClassName").is_none() {
                fields.remove("storageClassName");
            }
            if bound {
                fields.remove("volumeAttributesClassName");
            }
        }
        if bound && let Some(requests) = object_mut(&mut spec, "/resources/requests") {
            requests.remove("storage");
        }
        spec
    };
    if fixed(new) != fixed(old) {
        errors.forbidden(
            path,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let size =
        |claim: &Value, pointer: &str| Quantity::parse(text(claim, pointer)).map_or(0, Quantity::millis);
    let request = "/spec/resources/requests/storage";
    if size(new, request) < size(old, request) && size(new, request) <= size(old, "/status/capacity/storage")
    {
        let field = path.child("resources").child("requests").child("storage");
        errors.forbidden(&field, "field can not be less than status.capacity");
    }
    let mode = "/spec/volumeMode";
    errors.immutable(&Field::root().child("volumeMode"), at(new, mode), at(old, mode));
}
