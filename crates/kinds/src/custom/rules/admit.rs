//! Which rules a definition may have.

use serde_json::Value as Json;

use super::check::Checker;
use super::types::Ty;
use super::{WORD, names, parse, place, size};
use crate::check::errors::{Errors, Field};
use crate::custom::schema::{Additional, Schema};

const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Checks the rules of a schema and of everything in it.
pub(crate) fn rules(errors: &mut Errors, schema: Schema<'_>, path: &Field) {
    check(errors, schema, path, true, None);
}

/// `apart` is the list in which a value can't be told from those that were there before.
fn check(errors: &mut Errors, schema: Schema<'_>, path: &Field, is_root: bool, apart: Option<&Field>) {
    for (index, rule) in schema.list(WORD).iter().enumerate() {
        let path = path.child(WORD).index(index);
        self::rule(errors, schema, is_root, rule, &path, apart);
    }
    for (name, property) in schema.properties() {
        check(
            errors,
            property,
            &path.child("properties").key(name),
            false,
            apart,
        );
    }
    if let Additional::Of(values) = schema.additional() {
        check(errors, values, &path.child("additionalProperties"), false, apart);
    }
    if let Some(items) = schema.items() {
        let apart = match schema.list_type() {
            "map" => apart,
            _ => apart.or(Some(path)),
        };
        check(errors, items, &path.child("items"), false, apart);
    }
}

fn rule(
    errors: &mut Errors,
    schema: Schema<'_>,
    is_root: bool,
    rule: &Json,
    path: &Field,
    apart: Option<&Field>,
) {
    let text = |field: &str| rule[field].as_str().unwrap_or_default();
    words(errors, rule, path);
    field_path(errors, schema, text("fieldPath"), &path.child("fieldPath"));
    if text("rule").trim().is_empty() {
        return;
    }
    let Some(this) = Ty::of_schema(schema, is_root) else {
        let detail = "rules need a schema with a type";
        return errors.invalid(&path.child("rule"), text("rule"), detail);
    };
    let optional = rule["optionalOldSelf"] == true;
    let before = if optional {
        Ty::optional(this.clone())
    } else {
        this.clone()
    };
    let variables = vec![("self".to_owned(), this), ("oldSelf".to_owned(), before)];
    let at_rule = path.child("rule");
    match compiled(text("rule"), variables.clone()) {
        Err(why) => errors.invalid_text(&at_rule, &shown(rule), &format!("compilation failed: {why}")),
        Ok((ty, uses_old)) => {
            if !matches!(ty, Ty::Bool | Ty::Dyn) {
                let detail = "cel expression must evaluate to a bool";
                errors.invalid_text(&at_rule, &shown(rule), detail);
            }
            if let (true, Some(list)) = (uses_old, apart) {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                );
                errors.invalid(&at_rule, text("rule"), &detail);
            }
            if let (Some(optional), false) = (rule["optionalOldSelf"].as_bool(), uses_old) {
                let detail = "may not be set if oldSelf is not used in rule";
                errors.invalid(&path.child("optionalOldSelf"), optional, detail);
            }
        }
    }
    if text("messageExpression").trim().is_empty() {
        return;
    }
    let at_message = path.child("messageExpression");
    match compiled(text("messageExpression"), variables) {
        Err(why) => {
            let detail = format!("messageExpression compilation failed: {why}");
            errors.invalid_text(&at_message, &shown(rule), &detail);
        }
        Ok((Ty::String | Ty::Dyn, _)) => {}
        Ok(_) => {
            let detail = "messageExpression must evaluate to a string";
            errors.invalid_text(&at_message, &shown(rule), detail);
        }
    }
}

/// The whole rule, as mistakes of its expressions show it.
fn shown(rule: &Json) -> String {
    let text = |field: &str| Json::from(rule[field].as_str().unwrap_or_default());
    let shown = format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{},"FieldPath":{},"OptionalOldSelf":{}}}"#,
        text("rule"),
        text("message"),
        text("messageExpression"),
        rule["reason"],
        text("fieldPath"),
        rule["optionalOldSelf"],
    );
    // As Go writes JSON.
    shown
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// The field that a broken rule is about.
fn field_path(errors: &mut Errors, schema: Schema<'_>, text: &str, path: &Field) {
    if text.is_empty() {
        return;
    }
    if text.trim().is_empty() {
        errors.invalid(path, text, "must be non-empty if specified");
    }
    if text.contains(['\n', '\r']) {
        errors.invalid(path, text, "must not contain line breaks");
    }
    if !place::is_valid(schema, text) {
        errors.invalid(path, text, "must be a valid path");
    }
}

/// The type of an expression, and whether it looks at what was.
fn compiled<'a>(text: &str, variables: Vec<(String, Ty<'a>)>) -> Result<(Ty<'a>, bool), String> {
    let (expression, source) = parse(text)?;
    let ty = size::with_stack(|| Checker::type_of(&expression, &source, variables))?;
    Ok((ty, names(&expression, "oldSelf")))
}

/// The parts of a rule that are no expressions.
fn words(errors: &mut Errors, rule: &Json, path: &Field) {
    let text = |field: &str| rule[field].as_str();
    let expression = text("rule").unwrap_or_default().trim();
    if expression.is_empty() {
        errors.required(&path.child("rule"), "rule is not specified");
    }
    let message = text("message").map(str::trim);
    if text("message").is_some_and(|message| !message.is_empty()) && message == Some("") {
        let detail = "must be non-empty if specified";
        errors.invalid(
            &path.child("message"),
            text("message").unwrap_or_default(),
            detail,
        );
    }
    match message.unwrap_or_default() {
        "" if expression.contains(['\n', '\r']) => {
            let detail = "message must be specified if rule contains line breaks";
            errors.required(&path.child("message"), detail);
        }
        message if message.contains(['\n', '\r']) => {
            errors.invalid(&path.child("message"), message, "must not contain line breaks");
        }
        _ => {}
    }
    if text("messageExpression").is_some_and(|text| !text.is_empty() && text.trim().is_empty()) {
        let detail = "messageExpression must be non-empty if specified";
        errors.required(&path.child("messageExpression"), detail);
    }
    if let Some(reason) = text("reason") {
        errors.one_of(&path.child("reason"), reason, &REASONS);
    }
}
