//! CronJob.

use k8s_openapi::api::batch::v1::CronJob;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::batch::{job, job_validation, schedule};
use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::{at, flag, int, list, set_default, set_default_text, text};
use crate::kind::{Column, Generation};
use crate::{decode, labels, pod};

pub(crate) const KIND: Entry = Entry {
    short_names: &["cj"],
    categories: &["all"],
    status: true,
    generation: Generation::Content,
    decode: |raw| {
        let mut decoded = decode::typed::<CronJob>(raw)?;
        if let Some(spec) = decoded.object.pointer_mut("/spec/jobTemplate/spec/template/spec") {
            pod::quantities::pod_spec(spec, "spec.jobTemplate.spec.template.spec")?;
        }
        Ok(decoded)
    },
    default,
    rules,
    columns: COLUMNS,
    row,
    ..Entry::namespaced::<CronJob>("cronjob")
};

fn default(cron: &mut Value) {
    set_default(cron, "spec", json!({}));
    let spec = &mut cron["spec"];
    set_default_text(spec, "concurrencyPolicy", "Allow");
    set_default(spec, "suspend", false);
    set_default(spec, "successfulJobsHistoryLimit", 3);
    set_default(spec, "failedJobsHistoryLimit", 1);
    set_default(spec, "jobTemplate", json!({}));
    set_default(&mut spec["jobTemplate"], "metadata", json!({}));
    set_default(&mut spec["jobTemplate"], "spec", json!({}));
    job::template(&mut spec["jobTemplate"]["spec"]);
    set_default(cron, "status", json!({}));
}

const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Schedule", "string", "When Jobs are made, in cron's notation."),
    column("Timezone", "string", "The time zone of the schedule."),
    column(
        "Suspend",
        "boolean",
        "Whether no Jobs are made for the time being.",
    ),
    column("Active", "integer", "How many Jobs are running."),
    column("Last Schedule", "string", "When the last Job was made."),
    columns::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

fn row(cron: &Value, now: i64) -> Vec<Value> {
    let spec = &cron["spec"];
    let template = &spec["jobTemplate"]["spec"];
    let last = text(cron, "/status/lastScheduleTime");
    let last = if last.is_empty() {
        "<none>".to_owned()
    } else {
        columns::since(last, now)
    };
    let (names, images) = columns::containers(&template["template"]);
    vec![
        columns::name(cron),
        text(spec, "/schedule").into(),
        columns::or_none(text(spec, "/timeZone")),
        if flag(spec, "/suspend") { "True" } else { "False" }.into(),
        list(cron, "/status/active").len().into(),
        last.into(),
        columns::age(cron, now),
        names,
        images,
        labels::format_selector(&template["selector"]).into(),
    ]
}

fn rules(errors: &mut Errors, cron: &Value, old: Option<&Value>) {
    /// What is added to make a Job's name leaves this much.
    const MOST: usize = 52;
    let path = Field::root().child("spec");
    let spec = &cron["spec"];
    schedule(errors, spec, &path.child("schedule"));
    let deadline = int(spec, "/startingDeadlineSeconds");
    errors.not_negative(&path.child("startingDeadlineSeconds"), deadline);
    if let Some(zone) = at(spec, "/timeZone").and_then(Value::as_str) {
        time_zone(errors, zone, &path.child("timeZone"));
    }
    let policy = text(spec, "/concurrencyPolicy");
    errors.one_of(
        &path.child("concurrencyPolicy"),
        policy,
        &["Allow", "Forbid", "Replace"],
    );
    let job = &spec["jobTemplate"]["spec"];
    let field = path.child("jobTemplate").child("spec");
    job_validation::spec(errors, job, &field);
    if let Some(selector) = at(job, "/selector") {
        let detail = "`selector` will be auto-generated";
        errors.invalid(&field.child("selector"), selector.clone(), detail);
    }
    if job["manualSelector"] == true {
        errors.not_supported(&field.child("manualSelector"), true, &["nil", "false"]);
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(&path.child(field), int(spec, &format!("/{field}")));
    }
    let name = text(cron, "/metadata/name");
    if old.is_none() && name.len() > MOST {
        let field = Field::root().child("metadata").child("name");
        errors.invalid(&field, name, &format!("must be no more than {MOST} characters"));
    }
}

fn schedule(errors: &mut Errors, spec: &Value, path: &Field) {
    let schedule = text(spec, "/schedule");
    if schedule.is_empty() {
        return errors.required(path, "");
    }
    if let Err(why) = schedule::check(schedule) {
        errors.invalid(path, schedule, &why);
    }
    if schedule.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(path, schedule, detail);
    }
}

fn time_zone(errors: &mut Errors, zone: &str, path: &Field) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let broken =
        |part: &str| matches!(part, "" | "." | "..") || part.starts_with('-') || !part.chars().all(allowed);
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    } else if zone.split('/').any(broken) {
        errors.invalid(path, zone, &format!("unknown time zone {zone}"));
    } else if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
    }
}
