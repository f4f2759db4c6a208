//! Job.

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::batch::job_validation;
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, entries, int, list, list_mut, object_mut, set, set_default, set_default_text, text};
use crate::kind::{Column, Generation};
use crate::pod;

pub(crate) const KIND: Entry = Entry {
    categories: &["all"],
    status: true,
    generation: Generation::Content,
    decode: workload::decode::<Job>,
    default,
    prepare: |new, old| {
        if old.is_none() {
            generate_selector(new);
        }
    },
    rules: job_validation::rules,
    columns: COLUMNS,
    row,
    fields: &[("status.successful", |job| {
        int(job, "/status/succeeded").unwrap_or_default().to_string()
    })],
    ..Entry::namespaced::<Job>("job")
};

fn default(job: &mut Value) {
    set_default(job, "spec", json!({}));
    let spec = &mut job["spec"];
    if at(spec, "/completions").is_none() && at(spec, "/parallelism").is_none() {
        set(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    let per_index = at(spec, "/backoffLimitPerIndex").is_some();
    set_default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    set_default(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
    set_default(spec, "manualSelector", false);
    let failures = at(spec, "/podFailurePolicy").is_some();
    let replacement = if failures { "Failed" } else { "TerminatingOrFailed" };
    set_default(spec, "podReplacementPolicy", replacement);
    for rule in list_mut(spec, "/podFailurePolicy/rules") {
        list_mut(rule, "/onPodConditions").for_each(|it| set_default_text(it, "status", "True"));
    }
    template(spec);
    if entries(job, "/metadata/labels").next().is_none()
        && let Some(labels) = at(job, "/spec/template/metadata/labels").cloned()
    {
        set(&mut job["metadata"], "labels", labels);
    }
    set_default(job, "status", json!({}));
}

/// Also a CronJob's.
pub(crate) fn template(spec: &mut Value) {
    set_default(spec, "template", json!({}));
    pod::defaults::template(&mut spec["template"]);
}

/// A Job's pods are found by its uid, unless its author takes care of that.
fn generate_selector(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let name = text(job, "/metadata/name").to_owned();
    let uid = text(job, "/metadata/uid").to_owned();
    let template = &mut job["spec"]["template"]["metadata"];
    set_default(template, "labels", json!({}));
    for (label, value) in [
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
    ] {
        set_default(&mut template["labels"], label, value.as_str());
    }
    set_default(&mut job["spec"], "selector", json!({}));
    set_default(&mut job["spec"]["selector"], "matchLabels", json!({}));
    if let Some(labels) = object_mut(job, "/spec/selector/matchLabels") {
        labels
            .entry("batch.kubernetes.io/controller-uid")
            .or_insert(uid.into());
    }
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Status", "string", "Status of the job."),
    column(
        "Completions",
        "string",
        "How many pods have succeeded, of how many.",
    ),
    column("Duration", "string", "Time required to complete the job."),
    columns::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

fn row(job: &Value, now: i64) -> Vec<Value> {
    let succeeded = int(job, "/status/succeeded").unwrap_or_default();
    let completions = match (int(job, "/spec/completions"), int(job, "/spec/parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, Some(parallelism)) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let seconds = |pointer| columns::seconds(text(job, pointer));
    let duration = seconds("/status/startTime").map(|start| {
        let end = seconds("/status/completionTime").unwrap_or(now);
        columns::human_duration(end - start)
    });
    let mut cells = vec![
        columns::name(job),
        status(job).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        columns::age(job, now),
    ];
    cells.extend(workload::wide_cells(job));
    cells
}

fn status(job: &Value) -> &'static str {
    let has = |kind: &str| {
        let conditions = list(job, "/status/conditions");
        let mut conditions = conditions.iter();
        conditions.any(|it| text(it, "/type") == kind && text(it, "/status") == "True")
    };
    let deleted = at(job, "/metadata/deletionTimestamp").is_some();
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if deleted => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}
