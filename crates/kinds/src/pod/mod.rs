//! Pods, and the templates of pods in other kinds.

mod admission;
mod columns;
mod container;
pub(crate) mod defaults;
mod env;
mod probe;
mod qos;
pub(crate) mod quantities;
pub(crate) mod resources;
pub(crate) mod scheduling;
mod update;
pub(crate) mod validation;
pub(crate) mod volumes;

pub use qos::qos_class;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::decode;
use crate::entry::Entry;
use crate::json::{flag, set_default, set_default_text, text};
use crate::kind::{DecodeError, Decoded, Generation};

pub(crate) const KIND: Entry = Entry {
    short_names: &["po"],
    categories: &["all"],
    status: true,
    generation: Generation::Content,
    subresources: &[
        "attach",
        "binding",
        "ephemeralcontainers",
        "eviction",
        "exec",
        "log",
        "portforward",
        "proxy",
    ],
    decode: decode_pod,
    default,
    rules: validation::rules,
    columns: columns::COLUMNS,
    row: columns::row,
    fields: &[
        ("spec.nodeName", |pod| text(pod, "/spec/nodeName").to_owned()),
        ("spec.restartPolicy", |pod| {
            text(pod, "/spec/restartPolicy").to_owned()
        }),
        ("spec.schedulerName", |pod| {
            text(pod, "/spec/schedulerName").to_owned()
        }),
        ("spec.serviceAccountName", |pod| {
            text(pod, "/spec/serviceAccountName").to_owned()
        }),
        ("spec.hostNetwork", |pod| {
            flag(pod, "/spec/hostNetwork").to_string()
        }),
        ("status.phase", |pod| text(pod, "/status/phase").to_owned()),
        ("status.podIP", |pod| text(pod, "/status/podIP").to_owned()),
        ("status.nominatedNodeName", |pod| {
            text(pod, "/status/nominatedNodeName").to_owned()
        }),
    ],
    ..Entry::namespaced::<Pod>("pod")
};

fn decode_pod(raw: &Value) -> Result<Decoded, DecodeError> {
    let mut decoded = decode::typed::<Pod>(raw)?;
    if let Some(spec) = decoded.object.get_mut("spec") {
        quantities::pod_spec(spec, "spec")?;
    }
    if let Some(status) = decoded.object.get_mut("status") {
        quantities::pod_status(status, "status")?;
    }
    Ok(decoded)
}

fn default(pod: &mut Value) {
    defaults::pod(pod);
    admission::pod(pod);
    let qos_class = qos::qos_class(pod);
    set_default(pod, "status", json!({}));
    set_default_text(&mut pod["status"], "phase", "Pending");
    set_default_text(&mut pod["status"], "qosClass", qos_class);
}
