//! What a definition's `spec` must be.

use serde_json::{Value, json};

use super::{default_values, openapi, structural};
use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::custom::expression;
use crate::custom::path::Path;
use crate::custom::rules;
use crate::custom::schema::Schema;
use crate::custom::validate::Patterns;
use crate::json::{at, flag, list, text};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "name",
    "password",
];
/// How large the patterns of a definition may be together.
const MOST_STATES: usize = 250_000;
/// How many fields of a version can be selected by.
const MAX_SELECTABLE: usize = 8;

pub(crate) fn rules(errors: &mut Errors, definition: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &definition["spec"];
    group(errors, text(spec, "/group"), &path.child("group"));
    one_of(
        errors,
        text(spec, "/scope"),
        &["Cluster", "Namespaced"],
        &path.child("scope"),
    );
    if flag(spec, "/preserveUnknownFields") {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&path.child("preserveUnknownFields"), true, detail);
    }
    versions(errors, list(spec, "/versions"), &path.child("versions"));
    names(errors, &spec["names"], &path.child("names"));
    conversion(errors, &spec["conversion"], &path.child("conversion"));
    if let Some(old) = old {
        immutable(errors, definition, old, &path);
    }
}

fn group(errors: &mut Errors, group: &str, path: &Field) {
    let mistakes = names::subdomain(group);
    match group {
        "" => errors.required(path, ""),
        group if !mistakes.is_empty() => errors.invalid(path, group, &mistakes.join(",")),
        group if !group.contains('.') => {
            errors.invalid(path, group, "should be a domain with at least one dot");
        }
        _ => {}
    }
}

fn one_of(errors: &mut Errors, value: &str, supported: &[&str], path: &Field) {
    match value {
        "" => errors.required(path, ""),
        value => errors.one_of(path, value, supported),
    }
}

/// Whether the patterns of all schemas can be compiled in a moment. Each alone may be all right.
fn moderate(errors: &mut Errors, versions: &[Value], path: &Field) -> bool {
    let schemas = versions.iter().filter_map(|version| at(version, "/schema"));
    let size: usize = schemas
        .map(|schema| Patterns::of(schema).size())
        .fold(0, usize::saturating_add);
    let moderate = size <= MOST_STATES;
    if !moderate {
        let detail = format!(
            "the regular expressions of the schemas are too large together: about {size} states, of at most {MOST_STATES}; use fewer or smaller repetitions and classes"
        );
        errors.forbidden(path, &detail);
    }
    moderate
}

fn versions(errors: &mut Errors, versions: &[Value], path: &Field) {
    if !moderate(errors, versions, path) {
        return;
    }
    let mut seen = std::collections::HashSet::new();
    let mut unique = true;
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        let name = text(version, "/name");
        unique &= seen.insert(name);
        let mistakes = names::label_1035(name);
        if !mistakes.is_empty() {
            errors.invalid(&path.child("name"), name, &mistakes.join(","));
        }
        self::version(errors, version, &path);
    }
    if !unique {
        errors.invalid(path, versions.to_vec(), "must contain unique version names");
    }
    if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        let detail = "must have exactly one version marked as storage version";
        errors.invalid(path, versions.to_vec(), detail);
    }
}

fn version(errors: &mut Errors, version: &Value, path: &Field) {
    deprecation(errors, version, &path.child("deprecationWarning"));
    let schema_path = path.child("schema").child("openAPIV3Schema");
    match at(version, "/schema/openAPIV3Schema") {
        None => errors.required(&schema_path, "schemas are required"),
        Some(schema) => self::schema(errors, Schema(schema), &schema_path),
    }
    if let Some(scale) = at(version, "/subresources/scale") {
        self::scale(errors, scale, &path.child("subresources"));
    }
    for (index, column) in list(version, "/additionalPrinterColumns").iter().enumerate() {
        self::column(
            errors,
            column,
            &path.child("additionalPrinterColumns").index(index),
        );
    }
    selectable(errors, version, &path.child("selectableFields"));
}

fn schema(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    if schema.is_nullable() {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let mut structure = Errors::default();
    structural::rules(&mut structure, schema, path);
    openapi::rules(&mut structure, schema, path);
    if structure.is_empty() {
        default_values::rules(&mut structure, schema, path);
        rules::admit(&mut structure, schema, path);
    }
    errors.extend(structure);
}

fn deprecation(errors: &mut Errors, version: &Value, path: &Field) {
    let Some(warning) = at(version, "/deprecationWarning").and_then(Value::as_str) else {
        return;
    };
    if !flag(version, "/deprecated") {
        errors.invalid(path, warning, "can only be set for deprecated versions");
    }
    if warning.len() > 256 {
        errors.invalid(path, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(path, warning, "must not be an empty string");
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        );
        errors.invalid(path, warning, &detail);
    }
}

fn scale(errors: &mut Errors, scale: &Value, path: &Field) {
    for (field, prefixes, under) in [
        (
            "specReplicasPath",
            &[".spec."][..],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            &[".status."][..],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            &[".spec.", ".status."][..],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let path = path.child(&format!("scale.{field}"));
        match text(scale, &format!("/{field}")) {
            "" if field == "labelSelectorPath" => {}
            "" => errors.required(&path, ""),
            value if !value.starts_with('.') => {
                errors.invalid(&path, value, "must be a simple json path starting with .");
            }
            value if !prefixes.iter().any(|prefix| value.starts_with(prefix)) => {
                errors.invalid(&path, value, under);
            }
            value if value.contains(['[', ']', '/', '~']) => {
                errors.invalid(&path, value, "must be a json path in the dot notation");
            }
            _ => {}
        }
    }
}

fn column(errors: &mut Errors, column: &Value, path: &Field) {
    if text(column, "/name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    let kind = text(column, "/type");
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    match kind {
        "" => errors.required(&path.child("type"), &types),
        kind if !COLUMN_TYPES.contains(&kind) => errors.invalid(&path.child("type"), kind, &types),
        _ => {}
    }
    let format = text(column, "/format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.invalid(&path.child("format"), format, &detail);
    }
    let path = path.child("JSONPath");
    match text(column, "/jsonPath") {
        "" => errors.required(&path, ""),
        value if !value.starts_with('.') => {
            errors.invalid(&path, value, "must be a simple json path starting with .");
        }
        value => {
            // Kubernetes lets these in, and shows nothing for them.
            if let Err(why) = Path::parse(value) {
                errors.invalid(&path, value, &format!("is an invalid path: {why}"));
            }
        }
    }
}

fn selectable(errors: &mut Errors, version: &Value, path: &Field) {
    let fields = list(version, "/selectableFields");
    let mut seen = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index).child("jsonPath");
        let label = text(field, "/jsonPath");
        if label.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let root = at(version, "/schema/openAPIV3Schema").map(Schema);
        let names = label.strip_prefix('.').map(|label| label.split('.'));
        let found = names.and_then(|mut names| names.try_fold(root?, Schema::field));
        match found.map(Schema::ty) {
            None => errors.invalid(
                &path,
                label,
                "is an invalid path: does not refer to a valid field",
            ),
            Some(_) if label.starts_with(".metadata") => {
                errors.invalid(&path, label, "must not point to fields in metadata");
            }
            Some("string" | "boolean" | "integer") => {}
            Some(_) => {
                let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                errors.invalid(&path, label, detail);
            }
        }
        if seen.contains(&label) {
            errors.duplicate(&path, label);
        }
        seen.push(label);
    }
    if fields.len() > MAX_SELECTABLE {
        errors.too_many(path, fields.len(), MAX_SELECTABLE);
    }
}

fn names(errors: &mut Errors, names: &Value, path: &Field) {
    let of = |field: &str| text(names, &format!("/{field}"));
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = of(field);
        let path = path.child(field);
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let is_kind = matches!(field, "kind" | "listKind");
        let mistakes = match is_kind {
            true => names::label_1035(&name.to_lowercase()),
            false => names::label_1035(name),
        };
        if !mistakes.is_empty() {
            let mixed = if is_kind {
                "may have mixed case, but should otherwise match: "
            } else {
                ""
            };
            errors.invalid(&path, name, &format!("{mixed}{}", mistakes.join(",")));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in list(names, &format!("/{field}")).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let mistakes = names::label_1035(name);
            if !mistakes.is_empty() {
                errors.invalid(&path.child(field).index(index), name, &mistakes.join(","));
            }
        }
    }
    if !of("kind").is_empty() && of("kind") == of("listKind") {
        let detail = "kind and listKind may not be the same";
        errors.invalid(&path.child("listKind"), of("listKind"), detail);
    }
}

/// Objects are the same in every version here: nobody is asked to convert them.
fn conversion(errors: &mut Errors, conversion: &Value, path: &Field) {
    let strategy = path.child("strategy");
    match text(conversion, "/strategy") {
        "" => errors.required(&strategy, ""),
        "None" if at(conversion, "/webhook").is_some() => {
            let detail = "should not be set when strategy is not set to Webhook";
            errors.forbidden(&path.child("webhook"), detail);
        }
        "None" => {}
        "Webhook" => {
            let detail = "conversion webhooks are not called by this server; use the strategy None, with versions that have the same fields";
            errors.invalid(&strategy, "Webhook", detail);
        }
        other => errors.not_supported(&strategy, other, &["None", "Webhook"]),
    }
}

fn immutable(errors: &mut Errors, new: &Value, old: &Value, path: &Field) {
    let mut fix = |pointer: &str, path: &Field| errors.immutable(path, at(new, pointer), at(old, pointer));
    let established = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
    if list(old, "/status/conditions").iter().any(established) {
        fix("/spec/scope", &path.child("scope"));
        fix("/spec/names/kind", &path.child("names").child("kind"));
    }
    fix("/spec/group", &path.child("group"));
    fix("/spec/names/plural", &path.child("names").child("plural"));
}

/// Whether a pattern is a regular expression.
pub(super) fn pattern(errors: &mut Errors, pattern: &str, path: &Field) {
    if let Err(error) = expression::compile(pattern) {
        let reason = error.to_string();
        let last = reason.lines().last().unwrap_or_default();
        let detail = format!("must be a valid regular expression, but isn't: {last}");
        errors.invalid(path, json!(pattern), &detail);
    }
}
