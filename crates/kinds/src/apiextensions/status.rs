//! A definition's status: which names it has got, and whether its kind is served.

use serde_json::{Value, json};

use super::approval::{self, Approval};
use crate::json::{at, list, list_mut, set, text};

/// Gives a definition those of its names that no other one has, and says so in its conditions; `now` as objects
/// have times. Idempotent.
pub fn settle_definition(definition: &mut Value, others: &[Value], now: &str) {
    let others: Vec<&Value> = others
        .iter()
        .filter(|other| {
            text(other, "/spec/group") == text(definition, "/spec/group")
                && text(other, "/metadata/name") != text(definition, "/metadata/name")
        })
        .collect();
    let conflict = accept(definition, &others);
    let accepted = conflict.is_none();
    let (status, reason, message) = match conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", reason, message),
    };
    set_definition_condition(definition, "NamesAccepted", (status, reason, &message), now);
    // Once established, a kind stays so: there may be objects of it.
    if condition_status(definition, "Established") != "True" {
        let established = match accepted {
            true => (
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
            false => ("False", "NotAccepted", "not all names are accepted"),
        };
        set_definition_condition(definition, "Established", established, now);
    }
    approve(definition, now);
}

fn condition_status<'a>(definition: &'a Value, name: &str) -> &'a str {
    let mut conditions = list(definition, "/status/conditions").iter();
    let found = conditions.find(|condition| condition["type"] == name);
    found.map_or("", |condition| text(condition, "/status"))
}

/// Takes over what is free; what isn't, as a reason and a message.
fn accept(definition: &mut Value, others: &[&Value]) -> Option<(&'static str, String)> {
    let taken = |fields: &[&str], name: &str| {
        !name.is_empty()
            && others.iter().any(|other| {
                let names = &other["status"]["acceptedNames"];
                let short =
                    fields.contains(&"shortNames") && list(names, "/shortNames").iter().any(|s| s == name);
                short || fields.iter().any(|field| names[*field] == name)
            })
    };
    const RESOURCES: &[&str] = &["plural", "singular", "shortNames"];
    const KINDS: &[&str] = &["kind", "listKind"];
    let wanted = definition["spec"]["names"].clone();
    let mut accepted = at(definition, "/status/acceptedNames")
        .cloned()
        .unwrap_or_else(|| json!({}));
    let mut conflict = None;
    for (field, reason, space) in [
        ("plural", "PluralConflict", RESOURCES),
        ("singular", "SingularConflict", RESOURCES),
        ("shortNames", "ShortNamesConflict", RESOURCES),
        ("kind", "KindConflict", KINDS),
        ("listKind", "ListKindConflict", KINDS),
    ] {
        let names: Vec<&str> = match field {
            "shortNames" => list(&wanted, "/shortNames")
                .iter()
                .filter_map(Value::as_str)
                .collect(),
            field => wanted[field].as_str().into_iter().collect(),
        };
        let clash = names.iter().find(|name| taken(space, name));
        match (clash, wanted.get(field)) {
            (Some(name), _) => conflict = Some((reason, format!("{name:?} is already in use"))),
            (None, Some(value)) => set(&mut accepted, field, value.clone()),
            (None, None) => remove(&mut accepted, field),
        }
    }
    match wanted.get("categories") {
        Some(categories) => set(&mut accepted, "categories", categories.clone()),
        None => remove(&mut accepted, "categories"),
    }
    for field in ["plural", "kind"] {
        crate::json::set_default(&mut accepted, field, "");
    }
    definition["status"]["acceptedNames"] = accepted;
    conflict
}

fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}

/// Says whether a definition in one of Kubernetes' own groups was approved of.
fn approve(definition: &mut Value, now: &str) {
    if !approval::is_protected(text(definition, "/spec/group")) {
        return;
    }
    let (status, reason, message) = match approval::of(definition) {
        Approval::Approved(link) => ("True", "ApprovedAnnotation", format!("approved in {link}")),
        Approval::Bypassed(why) => ("False", "UnapprovedAnnotation", format!("not approved: {why:?}")),
        Approval::Missing => (
            "False",
            "MissingAnnotation",
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111".to_owned(),
        ),
        Approval::Invalid(text) => ("False", "InvalidAnnotation", format!("not an approval: {text:?}")),
    };
    set_definition_condition(
        definition,
        "KubernetesAPIApprovalPolicyConformant",
        (status, reason, &message),
        now,
    );
}

/// Sets a condition of a definition to a status, a reason and a message; its time is when its status changed
/// last.
pub fn set_definition_condition(definition: &mut Value, name: &str, to: (&str, &str, &str), now: &str) {
    let (status, reason, message) = to;
    let generation = definition["metadata"].get("generation").cloned();
    let mut new = json!({
        "type": name, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
    });
    if let Some(generation) = generation {
        new["observedGeneration"] = generation;
    }
    if let Some(old) = list_mut(definition, "/status/conditions").find(|old| old["type"] == name) {
        if old["status"] == status {
            new["lastTransitionTime"] = old["lastTransitionTime"].clone();
        }
        *old = new;
        return;
    }
    let mut conditions = list(definition, "/status/conditions").to_vec();
    conditions.push(new);
    definition["status"]["conditions"] = conditions.into();
}
