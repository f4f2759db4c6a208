//! RuntimeClass.

use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{meta, names};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, entries, list, text};
use crate::{decode, pod};

pub(crate) const KIND: Entry = Entry {
    decode: |raw| {
        let mut decoded = decode::typed::<RuntimeClass>(raw)?;
        pod::quantities::map(&mut decoded.object, "/overhead/podFixed", "overhead.podFixed")?;
        Ok(decoded)
    },
    rules,
    columns: &[
        columns::NAME,
        column("Handler", "string", "What the container runtime calls it."),
        columns::AGE,
    ],
    row: |class, now| {
        vec![
            columns::name(class),
            text(class, "/handler").into(),
            columns::age(class, now),
        ]
    },
    ..Entry::cluster::<RuntimeClass>("runtimeclass")
};

fn rules(errors: &mut Errors, class: &Value, old: Option<&Value>) {
    let field = Field::root().child("handler");
    match text(class, "/handler") {
        "" => errors.required(&field, ""),
        handler => errors.invalid_all(&field, handler, names::label(handler)),
    }
    let overhead = Field::root().child("overhead").child("podFixed");
    for (name, amount) in entries(class, "/overhead/podFixed") {
        pod::resources::quantity(errors, name, amount, &overhead.key(name));
    }
    let path = Field::root().child("scheduling");
    let scheduling = &class["scheduling"];
    meta::labels(errors, scheduling, "/nodeSelector", &path.child("nodeSelector"));
    for (index, toleration) in list(scheduling, "/tolerations").iter().enumerate() {
        pod::scheduling::toleration(errors, toleration, &path.child("tolerations").index(index));
    }
    if let Some(old) = old {
        errors.immutable(&field, at(class, "/handler"), at(old, "/handler"));
    }
}
