//! The rules of Jobs, and of the templates of Jobs in CronJobs.

use serde_json::{Map, Value, json};

use crate::check::errors::{Errors, Field};
use crate::check::{names, selector};
use crate::json::{at, int, list, text};
use crate::{labels, pod};

pub(crate) fn rules(errors: &mut Errors, job: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &job["spec"];
    self::spec(errors, spec, &path);
    selected(errors, job, &path);
    if old.is_none() {
        let completions = int(spec, "/completions").unwrap_or_default();
        if text(spec, "/completionMode") == "Indexed" && completions > 0 {
            let name = text(job, "/metadata/name");
            let last = format!("{name}-{}", completions - 1);
            if !names::label(&last).is_empty() {
                let detail = format!("will not able to create pod with invalid DNS label: {last}");
                errors.invalid(&Field::root().child("metadata").child("name"), name, &detail);
            }
        }
    }
    if let Some(old) = old {
        changed(errors, spec, &old["spec"], &path);
    }
    let status = Field::root().child("status");
    for field in ["active", "failed", "ready", "succeeded", "terminating"] {
        errors.not_negative(&status.child(field), int(job, &format!("/status/{field}")));
    }
}

fn selected(errors: &mut Errors, job: &Value, path: &Field) {
    let spec = &job["spec"];
    let template_labels = at(spec, "/template/metadata/labels").cloned().unwrap_or_default();
    let Some(wanted) = at(spec, "/selector") else {
        return errors.required(&path.child("selector"), "");
    };
    if spec["manualSelector"] != true {
        let uid = text(job, "/metadata/uid");
        let name = text(job, "/metadata/name");
        let generated = json!({
            "controller-uid": uid, "batch.kubernetes.io/controller-uid": uid,
            "job-name": name, "batch.kubernetes.io/job-name": name,
        });
        if !labels::selects(wanted, &generated) {
            errors.invalid(
                &path.child("selector"),
                wanted.clone(),
                "`selector` not auto-generated",
            );
        }
    }
    selector::selector(errors, wanted, &path.child("selector"));
    if !labels::selects(wanted, &template_labels) {
        errors.invalid(
            &path.child("template").child("metadata").child("labels"),
            template_labels,
            "`selector` does not match template `labels`",
        );
    }
}

/// Checks a spec, whether of a Job or of a template.
pub(crate) fn spec(errors: &mut Errors, spec: &Value, path: &Field) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.not_negative(&path.child(field), int(spec, &format!("/{field}")));
    }
    let per_index = int(spec, "/backoffLimitPerIndex");
    if at(spec, "/maxFailedIndexes").is_some() && per_index.is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.required(&path.child("backoffLimitPerIndex"), detail);
    }
    completion_mode(errors, spec, path);
    if let Some(policy) = at(spec, "/podFailurePolicy") {
        failure_policy(
            errors,
            spec,
            policy,
            &path.child("podFailurePolicy").child("rules"),
        );
    }
    let replacement = text(spec, "/podReplacementPolicy");
    let supported: &[&str] = match at(spec, "/podFailurePolicy") {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    if !replacement.is_empty() {
        errors.one_of(&path.child("podReplacementPolicy"), replacement, supported);
    }
    pod::validation::template(errors, &spec["template"], &path.child("template"));
    restart_policy(
        errors,
        spec,
        &path.child("template").child("spec").child("restartPolicy"),
    );
}

fn completion_mode(errors: &mut Errors, spec: &Value, path: &Field) {
    const MOST: i64 = 100_000;
    match text(spec, "/completionMode") {
        "Indexed" => {
            let completions = int(spec, "/completions");
            if completions.is_none() {
                errors.required(&path.child("completions"), "when completion mode is Indexed");
            }
            let parallelism = int(spec, "/parallelism").filter(|count| *count > MOST);
            if let Some(parallelism) = parallelism {
                let detail = format!("must be less than or equal to {MOST} when completion mode is Indexed");
                errors.invalid(&path.child("parallelism"), parallelism, &detail);
            }
            let failed = int(spec, "/maxFailedIndexes");
            if let (Some(failed), Some(completions)) = (failed, completions)
                && failed > completions
            {
                let detail = "must be less than or equal to completions";
                errors.invalid(&path.child("maxFailedIndexes"), failed, detail);
            }
        }
        "NonIndexed" | "" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
                if let Some(value) = at(spec, &format!("/{field}")) {
                    let detail = "requires indexed completion mode";
                    errors.invalid(&path.child(field), value.clone(), detail);
                }
            }
        }
        other => {
            errors.not_supported(&path.child("completionMode"), other, &["NonIndexed", "Indexed"]);
        }
    }
}

fn failure_policy(errors: &mut Errors, spec: &Value, policy: &Value, path: &Field) {
    const MOST: usize = 20;
    let rules = list(policy, "/rules");
    if rules.len() > MOST {
        errors.too_many(path, rules.len(), MOST);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        let action = text(rule, "/action");
        let field = path.child("action");
        match action {
            "" => errors.required(
                &field,
                "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            ),
            "FailIndex" if at(spec, "/backoffLimitPerIndex").is_none() => {
                errors.invalid(&field, action, "requires the backoffLimitPerIndex to be set");
            }
            _ => errors.one_of(&field, action, &["Count", "FailIndex", "FailJob", "Ignore"]),
        }
        let codes = at(rule, "/onExitCodes");
        let conditions = !list(rule, "/onPodConditions").is_empty();
        match (codes, conditions) {
            (Some(_), true) => errors.invalid(
                &path,
                rule.clone(),
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (None, false) => errors.invalid(
                &path,
                rule.clone(),
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            (Some(codes), false) => {
                let operator = text(codes, "/operator");
                let path = path.child("onExitCodes");
                errors.one_of(&path.child("operator"), operator, &["In", "NotIn"]);
                if list(codes, "/values").is_empty() {
                    errors.invalid(&path.child("values"), json!([]), "at least one value is required");
                }
            }
            (None, true) => {}
        }
    }
}

fn restart_policy(errors: &mut Errors, spec: &Value, path: &Field) {
    match text(spec, "/template/spec/restartPolicy") {
        "Always" | "" => errors.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if at(spec, "/podFailurePolicy").is_some() => errors.invalid(
            path,
            "OnFailure",
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        policy => errors.one_of(path, policy, &["OnFailure", "Never"]),
    }
}

fn changed(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    let same = |errors: &mut Errors, field: &str| {
        let pointer = format!("/{field}");
        errors.immutable(&path.child(field), at(new, &pointer), at(old, &pointer));
    };
    let indexed = text(new, "/completionMode") == "Indexed";
    match int(new, "/completions") {
        _ if !indexed => same(errors, "completions"),
        Some(completions)
            if int(old, "/completions") != Some(completions)
                && int(new, "/parallelism") != Some(completions) =>
        {
            let detail = "can only be modified in tandem with spec.parallelism";
            errors.invalid(&path.child("completions"), completions, detail);
        }
        _ => {}
    }
    same(errors, "selector");
    // A suspended Job that never ran may be moved to other nodes.
    let movable = old["suspend"] == true;
    if fixed(&new["template"], movable) != fixed(&old["template"], movable) {
        errors.invalid(
            &path.child("template"),
            new["template"].clone(),
            "field is immutable",
        );
    }
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        same(errors, field);
    }
}

fn fixed(template: &Value, movable: bool) -> Value {
    let mut template = template.clone();
    if !movable {
        return template;
    }
    let remove = |object: Option<&mut Map<String, Value>>, fields: &[&str]| {
        let Some(object) = object else { return };
        fields.iter().for_each(|field| _ = object.remove(*field));
    };
    remove(template["metadata"].as_object_mut(), &["annotations", "labels"]);
    let spec = &mut template["spec"];
    remove(spec["affinity"].as_object_mut(), &["nodeAffinity"]);
    if spec["affinity"] == json!({}) || spec["affinity"].is_null() {
        remove(spec.as_object_mut(), &["affinity"]);
    }
    remove(
        spec.as_object_mut(),
        &["nodeSelector", "schedulingGates", "tolerations"],
    );
    template
}
