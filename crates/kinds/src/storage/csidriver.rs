//! CSIDriver.

use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::{Value, json};

use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, flag, list, set_default, text};
use crate::kind::{Column, Generation};

pub(crate) const KIND: Entry = Entry {
    generation: Generation::Content,
    default: |driver| {
        set_default(driver, "spec", json!({}));
        let spec = &mut driver["spec"];
        set_default(spec, "attachRequired", true);
        for field in [
            "podInfoOnMount",
            "requiresRepublish",
            "seLinuxMount",
            "storageCapacity",
        ] {
            set_default(spec, field, false);
        }
        set_default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        set_default(spec, "volumeLifecycleModes", json!(["Persistent"]));
    },
    rules,
    columns: COLUMNS,
    row,
    ..Entry::cluster::<CSIDriver>("csidriver")
};

const COLUMNS: &[Column] = &[
    columns::NAME,
    column(
        "AttachRequired",
        "boolean",
        "Whether volumes are attached to nodes first.",
    ),
    column(
        "PodInfoOnMount",
        "boolean",
        "Whether the driver learns which pod it mounts for.",
    ),
    column(
        "StorageCapacity",
        "boolean",
        "Whether the scheduler asks how much room there is.",
    ),
    column(
        "TokenRequests",
        "string",
        "The audiences of the tokens that the driver gets.",
    ),
    column(
        "RequiresRepublish",
        "boolean",
        "Whether volumes are published again and again.",
    ),
    column("Modes", "string", "How volumes come and go."),
    columns::AGE,
];

fn row(driver: &Value, now: i64) -> Vec<Value> {
    let spec = &driver["spec"];
    let audiences: Vec<_> = list(spec, "/tokenRequests")
        .iter()
        .map(|it| text(it, "/audience"))
        .collect();
    let tokens = if audiences.is_empty() {
        "<unset>".to_owned()
    } else {
        audiences.join(",")
    };
    let modes: Vec<_> = list(spec, "/volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    vec![
        columns::name(driver),
        flag(spec, "/attachRequired").into(),
        flag(spec, "/podInfoOnMount").into(),
        flag(spec, "/storageCapacity").into(),
        tokens.into(),
        flag(spec, "/requiresRepublish").into(),
        modes.join(",").into(),
        columns::age(driver, now),
    ]
}

fn rules(errors: &mut Errors, driver: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &driver["spec"];
    let policy = text(spec, "/fsGroupPolicy");
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    errors.one_of(&path.child("fsGroupPolicy"), policy, &policies);
    for mode in list(spec, "/volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
    {
        errors.one_of(
            &path.child("volumeLifecycleModes"),
            mode,
            &["Ephemeral", "Persistent"],
        );
    }
    let tokens = list(spec, "/tokenRequests");
    for (index, token) in tokens.iter().enumerate() {
        let audience = text(token, "/audience");
        if tokens[..index]
            .iter()
            .any(|other| text(other, "/audience") == audience)
        {
            let field = path.child("tokenRequests").index(index).child("audience");
            errors.duplicate(&field, audience);
        }
    }
    if let Some(old) = old {
        for field in ["attachRequired", "volumeLifecycleModes"] {
            let new = at(spec, &format!("/{field}"));
            errors.immutable(&path.child(field), new, at(old, &format!("/spec/{field}")));
        }
    }
}
