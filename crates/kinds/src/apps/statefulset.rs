//! StatefulSet.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::check::errors::{Errors, Field};
use crate::check::{names, numbers};
use crate::columns::{self, column};
use crate::core::persistentvolumeclaim;
use crate::entry::Entry;
use crate::json::{at, int, list, list_mut, set, set_default, set_default_text, text};
use crate::kind::{Column, DecodeError, Decoded, Generation};
use crate::pod;

pub(crate) const KIND: Entry = Entry {
    short_names: &["sts"],
    categories: &["all"],
    status: true,
    scale: Some(workload::SCALE),
    generation: Generation::Content,
    decode,
    default,
    // Its pods' host names are made of it.
    name: names::label,
    rules,
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<StatefulSet>("statefulset")
};

fn decode(raw: &Value) -> Result<Decoded, DecodeError> {
    let mut decoded = workload::decode::<StatefulSet>(raw)?;
    let claims = list_mut(&mut decoded.object, "/spec/volumeClaimTemplates");
    for (index, claim) in claims.enumerate() {
        let path = format!("spec.volumeClaimTemplates[{index}]");
        persistentvolumeclaim::quantities(claim, &path)?;
    }
    Ok(decoded)
}

fn default(set_: &mut Value) {
    set_default(set_, "spec", json!({}));
    let spec = &mut set_["spec"];
    set_default(spec, "replicas", 1);
    set_default(spec, "revisionHistoryLimit", 10);
    set_default_text(spec, "podManagementPolicy", "OrderedReady");
    set_default(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    if text(strategy, "/type").is_empty() {
        set(strategy, "type", "RollingUpdate");
        set_default(strategy, "rollingUpdate", json!({}));
    }
    if text(strategy, "/type") == "RollingUpdate"
        && let Some(rolling_update) = strategy.get_mut("rollingUpdate")
    {
        set_default(rolling_update, "partition", 0);
    }
    set_default(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    for event in ["whenDeleted", "whenScaled"] {
        set_default_text(&mut spec["persistentVolumeClaimRetentionPolicy"], event, "Retain");
    }
    set_default(spec, "template", json!({}));
    pod::defaults::template(&mut spec["template"]);
    for claim in list_mut(spec, "/volumeClaimTemplates") {
        persistentvolumeclaim::default(claim);
    }
    set_default(set_, "status", json!({}));
    set_default(&mut set_["status"], "replicas", 0);
    set_default(&mut set_["status"], "availableReplicas", 0);
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Ready", "string", "Number of the pod with ready state"),
    columns::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
];

fn row(set: &Value, now: i64) -> Vec<Value> {
    let count = |pointer| int(set, pointer).unwrap_or_default();
    let [names, images, _] = workload::wide_cells(set);
    vec![
        columns::name(set),
        format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas")).into(),
        columns::age(set, now),
        names,
        images,
    ]
}

fn rules(errors: &mut Errors, set: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &set["spec"];
    match text(spec, "/podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid(
            &path.child("podManagementPolicy"),
            other,
            "must be 'OrderedReady' or 'Parallel'",
        ),
    }
    strategy(errors, spec, &path.child("updateStrategy"));
    for event in ["whenDeleted", "whenScaled"] {
        let policy = text(
            &spec["persistentVolumeClaimRetentionPolicy"],
            &format!("/{event}"),
        );
        let path = path.child("persistentVolumeClaimRetentionPolicy").child(event);
        errors.one_of(&path, policy, &["Retain", "Delete"]);
    }
    for (field, pointer) in [
        ("replicas", "/replicas"),
        ("minReadySeconds", "/minReadySeconds"),
        ("ordinals.start", "/ordinals/start"),
    ] {
        errors.not_negative(&path.child(field), int(spec, pointer));
    }
    if old.is_none() {
        created(errors, spec, &path);
    }
    workload::required_selector(errors, spec, &path.child("selector"));
    let template = path.child("template");
    workload::fits(errors, spec, &template);
    pod::validation::template(errors, &with_claims(spec), &template);
    workload::always_running(errors, &spec["template"], "StatefulSet", &template);
    let counts = [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    workload::status_counts(errors, set, &counts);
    if old.is_some_and(|old| fixed(&old["spec"]) != fixed(spec)) {
        errors.forbidden(
            &path,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

/// What can't change, so that only new sets are checked.
fn created(errors: &mut Errors, spec: &Value, path: &Field) {
    let claims = path.child("volumeClaimTemplates");
    for (index, claim) in list(spec, "/volumeClaimTemplates").iter().enumerate() {
        persistentvolumeclaim::spec(errors, &claim["spec"], &claims.index(index).child("spec"));
    }
    let name = text(spec, "/serviceName");
    if !name.is_empty() {
        errors.invalid_all(&path.child("serviceName"), name, names::label(name));
    }
}

fn strategy(errors: &mut Errors, spec: &Value, path: &Field) {
    let rolling_update = at(spec, "/updateStrategy/rollingUpdate");
    let field = path.child("rollingUpdate");
    match (text(spec, "/updateStrategy/type"), rolling_update) {
        ("OnDelete", Some(update)) => errors.invalid(
            &field,
            update.clone(),
            "only allowed for updateStrategy 'RollingUpdate'",
        ),
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(update)) => {
            errors.not_negative(&field.child("partition"), int(update, "/partition"));
            if let Some(unavailable) = at(update, "/maxUnavailable") {
                let field = field.child("maxUnavailable");
                numbers::int_or_percent(errors, unavailable, &field);
                if numbers::is_zero(unavailable) {
                    errors.invalid(&field, unavailable.clone(), "cannot be 0");
                }
                numbers::at_most_all(errors, unavailable, &field);
            }
        }
        _ => errors.invalid(
            path,
            spec["updateStrategy"].clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        ),
    }
}

/// The template as its pods will be: with a volume for each claim, without the host names that are made.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    if let Some(spec) = template["spec"].as_object_mut() {
        spec.remove("hostname");
        spec.remove("subdomain");
    }
    let names = list(spec, "/volumeClaimTemplates")
        .iter()
        .map(|claim| text(claim, "/metadata/name"));
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return template;
    }
    let claims = names
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let others = list(&template, "/spec/volumes").iter();
    let others = others
        .filter(|volume| !names.contains(&text(volume, "/name")))
        .cloned();
    let volumes: Vec<Value> = claims.chain(others).collect();
    set(&mut template["spec"], "volumes", volumes);
    template
}

fn fixed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(spec) = spec.as_object_mut() {
        for field in [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ] {
            spec.remove(field);
        }
    }
    spec
}
