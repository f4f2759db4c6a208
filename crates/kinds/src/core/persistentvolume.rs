//! PersistentVolume.

use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Map, Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::columns::{self, column, wide};
use crate::core::volume_claim::{self, access_modes, modes_text, or_unset, positive};
use crate::entry::Entry;
use crate::json::{at, entries, set_default, set_default_text, text};
use crate::kind::Column;
use crate::{decode, pod};

pub(crate) const KIND: Entry = Entry {
    short_names: &["pv"],
    status: true,
    decode: |raw| {
        let mut decoded = decode::typed::<PersistentVolume>(raw)?;
        pod::quantities::map(&mut decoded.object, "/spec/capacity", "spec.capacity")?;
        Ok(decoded)
    },
    default: |volume| {
        set_default(volume, "spec", json!({}));
        let spec = &mut volume["spec"];
        set_default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        set_default(spec, "volumeMode", "Filesystem");
        if let Some(host_path) = spec.get_mut("hostPath") {
            set_default(host_path, "type", "");
        }
        set_default(volume, "status", json!({}));
        set_default_text(&mut volume["status"], "phase", "Pending");
    },
    rules,
    columns: COLUMNS,
    row,
    ..Entry::cluster::<PersistentVolume>("persistentvolume")
};

/// The fields of the spec that aren't where the volume is.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn sources(spec: &Value) -> Map<String, Value> {
    let mut sources = spec.as_object().cloned().unwrap_or_default();
    sources.retain(|field, _| !NOT_SOURCES.contains(&field.as_str()));
    sources
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Capacity", "string", "How large the volume is."),
    column("Access Modes", "string", "How the volume can be mounted."),
    column(
        "Reclaim Policy",
        "string",
        "What becomes of the volume when its claim is gone.",
    ),
    column("Status", "string", "Whether the volume is free or somebody's."),
    column("Claim", "string", "The claim that has the volume."),
    column("StorageClass", "string", "The StorageClass of the volume."),
    column(
        "VolumeAttributesClass",
        "string",
        "The VolumeAttributesClass of the volume.",
    ),
    column(
        "Reason",
        "string",
        "Why the volume is in its state, as a short word.",
    ),
    columns::AGE,
    wide(
        "VolumeMode",
        "string",
        "Whether the volume is a file system or a block device.",
    ),
];

fn row(volume: &Value, now: i64) -> Vec<Value> {
    let capacity = text(volume, "/spec/capacity/storage");
    let claim = at(volume, "/spec/claimRef");
    let claim = claim.map(|claim| format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")));
    vec![
        columns::name(volume),
        if capacity.is_empty() { "0" } else { capacity }.into(),
        modes_text(volume, "/spec/accessModes").into(),
        text(volume, "/spec/persistentVolumeReclaimPolicy").into(),
        volume_claim::phase(volume).into(),
        claim.unwrap_or_default().into(),
        volume_claim::class(volume).into(),
        or_unset(volume, "/spec/volumeAttributesClassName").into(),
        text(volume, "/status/reason").into(),
        columns::age(volume, now),
        or_unset(volume, "/spec/volumeMode").into(),
    ]
}

fn rules(errors: &mut Errors, volume: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &volume["spec"];
    access_modes(errors, spec, "", &path);
    capacity(errors, spec, &path.child("capacity"));
    let policy = text(spec, "/persistentVolumeReclaimPolicy");
    let supported = ["Delete", "Recycle", "Retain"];
    errors.one_of(&path.child("persistentVolumeReclaimPolicy"), policy, &supported);
    if let Some(required) = at(spec, "/nodeAffinity/required") {
        let path = path.child("nodeAffinity").child("required");
        pod::scheduling::node_selector(errors, required, &path);
    }
    source(errors, spec, &path);
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let class = text(spec, &format!("/{field}"));
        if !class.is_empty() {
            errors.invalid_all(&path.child(field), class, names::subdomain(class));
        }
    }
    let mode = text(spec, "/volumeMode");
    errors.one_of(&path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    if let Some(old) = old {
        if sources(spec) != sources(&old["spec"]) {
            let field = path.child("persistentvolumesource");
            errors.forbidden(&field, "spec.persistentvolumesource is immutable after creation");
        }
        let mode = "/spec/volumeMode";
        errors.immutable(
            &Field::root().child("volumeMode"),
            at(volume, mode),
            at(old, mode),
        );
    }
}

fn capacity(errors: &mut Errors, spec: &Value, path: &Field) {
    let count = entries(spec, "/capacity").count();
    if count == 0 {
        errors.required(path, "");
    }
    if count != 1 || at(spec, "/capacity/storage").is_none() {
        let found = at(spec, "/capacity").cloned().unwrap_or_default();
        errors.not_supported(path, found, &["storage"]);
    }
    for (name, amount) in entries(spec, "/capacity") {
        positive(errors, amount, &path.key(name));
    }
}

fn source(errors: &mut Errors, spec: &Value, path: &Field) {
    let sources = sources(spec);
    let mut named = sources.iter();
    let Some((kind, source)) = named.next() else {
        return errors.required(path, "must specify a volume type");
    };
    pod::volumes::shared_source(errors, kind, source, &path.child(kind));
    for (kind, _) in named {
        errors.forbidden(&path.child(kind), "may not specify more than 1 volume type");
    }
    let field = path.child(kind);
    let required: &[&str] = match kind.as_str() {
        "local" => &["path"],
        "csi" => &["driver", "volumeHandle"],
        _ => &[],
    };
    for name in required {
        if text(source, &format!("/{name}")).is_empty() {
            errors.required(&field.child(name), "");
        }
    }
    if kind == "local" && at(spec, "/nodeAffinity/required").is_none() {
        errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
    }
    let recycled = text(spec, "/persistentVolumeReclaimPolicy") == "Recycle";
    if kind == "hostPath" && recycled && text(source, "/path").trim_matches('/').is_empty() {
        errors.forbidden(
            &path.child("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
}
