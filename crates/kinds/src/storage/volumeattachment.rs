//! VolumeAttachment.

use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, flag, set_default, text};
use crate::kind::Column;

pub(crate) const KIND: Entry = Entry {
    status: true,
    default: |attachment| {
        set_default(attachment, "status", json!({}));
        set_default(&mut attachment["status"], "attached", false);
    },
    rules,
    columns: COLUMNS,
    row: |attachment, now| {
        vec![
            columns::name(attachment),
            text(attachment, "/spec/attacher").into(),
            text(attachment, "/spec/source/persistentVolumeName").into(),
            text(attachment, "/spec/nodeName").into(),
            flag(attachment, "/status/attached").into(),
            columns::age(attachment, now),
        ]
    },
    ..Entry::cluster::<VolumeAttachment>("volumeattachment")
};

const COLUMNS: &[Column] = &[
    columns::NAME,
    Column {
        format: "name",
        ..column("Attacher", "string", "The driver that attaches the volume.")
    },
    column("PV", "string", "The volume."),
    column("Node", "string", "The node that the volume is attached to."),
    column("Attached", "boolean", "Whether it is."),
    columns::AGE,
];

fn rules(errors: &mut Errors, attachment: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &attachment["spec"];
    for field in ["attacher", "nodeName"] {
        if text(spec, &format!("/{field}")).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let source = path.child("source");
    let volume = text(spec, "/source/persistentVolumeName");
    match (volume, at(spec, "/source/inlineVolumeSpec")) {
        ("", None) => {
            let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            errors.required(&source, detail);
        }
        ("", Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            errors.forbidden(&source, detail);
        }
    }
    if let Some(old) = old {
        errors.immutable(&path, at(attachment, "/spec"), at(old, "/spec"));
    }
}
