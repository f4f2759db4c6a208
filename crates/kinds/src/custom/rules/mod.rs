//! Rules in the Common Expression Language: `x-kubernetes-validations`, by KEP-2876 and the API reference on
//! validation rules.
//!
//! The language is the crate `cel`'s: it parses and runs. Here is what Kubernetes adds: types by the schema
//! (`types`, `signatures`, `check`), so that a rule that can't work is refused with its definition (`admit`);
//! limits of size and cost (`size`, `meter`); functions (`functions`, `network`, `amounts`); and what a rule sees (`values`).

mod admit;
mod amounts;
mod check;
mod functions;
mod meter;
mod network;
mod place;
mod signatures;
mod size;
mod types;
mod values;

use std::collections::HashMap;

use cel::common::ast::{Expr, IdedExpr, SourceInfo};
use cel::objects::OptionalValue;
use cel::{Context, ExecutionError, Value};
use serde_json::Value as Json;

use super::schema::{Additional, Schema};
use super::validate::counterpart;
use crate::check::errors::{Errors, Field};
use functions::ENVIRONMENT;

pub(crate) use admit::rules as admit;

/// The word of schemas for rules.
pub(crate) const WORD: &str = "x-kubernetes-validations";

/// An expression that is ready to run.
#[derive(Debug)]
pub(crate) struct Program {
    expression: IdedExpr,
    uses_old: bool,
}

/// The expressions of a schema, by their text.
pub(crate) type Programs = HashMap<String, Program>;

/// Reads an expression.
fn parse(text: &str) -> Result<(IdedExpr, SourceInfo), String> {
    size::check(text)?;
    let parsed = size::with_stack(|| ENVIRONMENT.parser().parse_with_source_info(text));
    parsed.map_err(|errors| errors.to_string().replace("\n| ", "\n | "))
}

/// Whether an expression names a variable.
fn names(expression: &IdedExpr, variable: &str) -> bool {
    let any = |parts: &[IdedExpr]| parts.iter().any(|part| names(part, variable));
    match &expression.expr {
        Expr::Ident(name) => name == variable,
        Expr::Select(select) => names(&select.operand, variable),
        Expr::Call(call) => {
            any(&call.args) || call.target.as_ref().is_some_and(|target| names(target, variable))
        }
        Expr::List(list) => any(&list.elements),
        Expr::Map(map) => map.entries.iter().any(|entry| match &entry.expr {
            cel::common::ast::EntryExpr::MapEntry(entry) => {
                names(&entry.key, variable) || names(&entry.value, variable)
            }
            cel::common::ast::EntryExpr::StructField(field) => names(&field.value, variable),
        }),
        Expr::Comprehension(c) => [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result]
            .into_iter()
            .any(|part| names(part, variable)),
        Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => false,
    }
}

/// Makes every expression of a schema ready to run.
pub(crate) fn programs(schema: &Json, programs: &mut Programs) {
    match schema {
        Json::Object(map) => {
            let rules = map.get(WORD).and_then(Json::as_array);
            for text in rules
                .into_iter()
                .flatten()
                .flat_map(|rule| [&rule["rule"], &rule["messageExpression"]])
            {
                if let Some(text) = text.as_str()
                    // What can't be read isn't let in.
                    && let Ok((mut expression, _)) = parse(text)
                {
                    let uses_old = names(&expression, "oldSelf");
                    meter::metered(&mut expression);
                    let program = Program { expression, uses_old };
                    programs.insert(text.to_owned(), program);
                }
            }
            map.values().for_each(|value| self::programs(value, programs));
        }
        Json::Array(list) => list.iter().for_each(|value| self::programs(value, programs)),
        _ => {}
    }
}

/// Runs the rules on an object and everything in it. What an update leaves as it was may break those that don't
/// look at what was.
pub(crate) fn validate(
    errors: &mut Errors,
    programs: &Programs,
    schema: Schema<'_>,
    new: &Json,
    old: Option<&Json>,
) {
    if programs.is_empty() {
        return;
    }
    let mut run = Run {
        programs,
        left: meter::MOST_OF_AN_OBJECT,
        errors,
    };
    let place = Place {
        schema,
        is_root: true,
        path: Field::root(),
    };
    if let Err(Spent::Budget) = size::with_stack(|| run.value(&place, new, old)) {
        let detail =
            "validation failed due to running out of cost budget, no further validation rules will be run";
        run.errors.invalid(&Field::nowhere(), schema.ty(), detail);
    }
}

/// Where a value stands.
struct Place<'a> {
    schema: Schema<'a>,
    is_root: bool,
    path: Field,
}

impl<'a> Place<'a> {
    fn inner(&self, schema: Schema<'a>, path: Field) -> Place<'a> {
        Place {
            schema,
            is_root: false,
            path,
        }
    }
}

impl Place<'_> {
    /// The path as mistakes name it: Kubernetes has none for the whole object.
    fn shown(&self) -> Field {
        match self.is_root {
            true => Field::nowhere(),
            false => self.path.clone(),
        }
    }
}

/// Why no rule is run any more.
enum Spent {
    /// One cost too much.
    Rule,
    /// All together did.
    Budget,
}

struct Run<'a> {
    programs: &'a Programs,
    left: u64,
    errors: &'a mut Errors,
}

impl Run<'_> {
    fn value(&mut self, place: &Place<'_>, new: &Json, old: Option<&Json>) -> Result<(), Spent> {
        let schema = place.schema;
        if new.is_null() {
            return Ok(());
        }
        let rules = schema.list(WORD);
        if !rules.is_empty() {
            self.rules(place, rules, new, old)?;
        }
        match new {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let old = old.and_then(|old| old.get(name)).filter(|old| !old.is_null());
                    let (field, path) = match (schema.property(name), schema.additional()) {
                        (Some(field), _) => (field, place.path.child(name)),
                        (None, Additional::Of(values)) => (values, place.path.key(name)),
                        _ => continue,
                    };
                    self.value(&place.inner(field, path), value, old)?;
                }
            }
            Json::Array(list) => {
                let Some(items) = schema.items() else {
                    return Ok(());
                };
                for (index, element) in list.iter().enumerate() {
                    let old = old.and_then(|old| counterpart(schema, old, element));
                    self.value(&place.inner(items, place.path.index(index)), element, old)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules(
        &mut self,
        place: &Place<'_>,
        rules: &[Json],
        new: &Json,
        old: Option<&Json>,
    ) -> Result<(), Spent> {
        let unchanged = old == Some(new);
        let this = values::value(place.schema, place.is_root, new);
        let before = old.map(|old| values::value(place.schema, place.is_root, old));
        for rule in rules {
            let text = rule["rule"].as_str().unwrap_or_default();
            let Some(program) = self.programs.get(text) else {
                continue;
            };
            if unchanged && !program.uses_old {
                continue;
            }
            let before = match (rule["optionalOldSelf"] == true, &before) {
                (true, Some(before)) => Some(functions::opaque(OptionalValue::of(before.clone()))),
                (true, None) => Some(functions::opaque(OptionalValue::none())),
                (false, Some(before)) => Some(before.clone()),
                // There is nothing that it could be compared with.
                (false, None) if program.uses_old => continue,
                (false, None) => None,
            };
            let mut context = Context::with_env(ENVIRONMENT.clone());
            context.add_variable_from_value("self", this.clone());
            if let Some(before) = before {
                context.add_variable_from_value("oldSelf", before);
            }
            self.rule(place, rule, program, &context)?;
        }
        Ok(())
    }

    fn rule(
        &mut self,
        place: &Place<'_>,
        rule: &Json,
        program: &Program,
        context: &Context<'_, '_>,
    ) -> Result<(), Spent> {
        let (text, ty) = (
            rule["rule"].as_str().unwrap_or_default().trim(),
            place.schema.ty(),
        );
        match self.evaluate(program, context) {
            Ok(Ok(Value::Bool(true))) => {}
            Ok(Ok(_)) => {
                let message = self.message(rule, context)?;
                self.refuse(place, rule, &message);
            }
            Ok(Err(error)) => {
                let detail = format!("{} evaluating rule: {text}", words(&error));
                self.errors.invalid(&place.shown(), ty, &detail);
            }
            Err(Spent::Budget) => return Err(Spent::Budget),
            Err(Spent::Rule) => {
                let detail = format!(
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {text}"
                );
                self.errors.invalid(&place.shown(), ty, &detail);
                return Err(Spent::Rule);
            }
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        program: &Program,
        context: &Context<'_, '_>,
    ) -> Result<Result<Value, ExecutionError>, Spent> {
        let most = self.left.min(meter::MOST_OF_A_RULE);
        let (outcome, spent) = meter::limited(most, || Value::resolve(&program.expression, context));
        self.left = self.left.saturating_sub(spent.max(1));
        outcome.ok_or(match most < meter::MOST_OF_A_RULE {
            true => Spent::Budget,
            false => Spent::Rule,
        })
    }

    /// What a broken rule says: its expression for messages, where that works, or its message.
    fn message(&mut self, rule: &Json, context: &Context<'_, '_>) -> Result<String, Spent> {
        let program = rule["messageExpression"]
            .as_str()
            .and_then(|text| self.programs.get(text));
        if let Some(program) = program
            && let Ok(Value::String(message)) = self.evaluate(program, context)?
        {
            let message = message.trim();
            if !message.is_empty() && !message.contains('\n') && message.len() <= 5 << 10 {
                return Ok(message.to_owned());
            }
        }
        Ok(match rule["message"].as_str().unwrap_or_default().trim() {
            "" => format!(
                "failed rule: {}",
                rule["rule"].as_str().unwrap_or_default().trim()
            ),
            message => message.to_owned(),
        })
    }

    fn refuse(&mut self, place: &Place<'_>, rule: &Json, message: &str) {
        let path = match rule["fieldPath"].as_str() {
            Some(within) => place::within(&place.path, within),
            None => place.shown(),
        };
        let ty = place.schema.ty();
        match rule["reason"].as_str().unwrap_or_default() {
            "FieldValueForbidden" => self.errors.forbidden(&path, message),
            "FieldValueRequired" => self.errors.required(&path, message),
            "FieldValueDuplicate" => self.errors.duplicate(&path, ty),
            _ => self.errors.invalid(&path, ty, message),
        }
    }
}

/// An error in the words that the language has for it.
fn words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::IndexOutOfBounds(index) => match index {
            Value::Int(index) => format!("index out of bounds: {index}"),
            _ => "index out of bounds".to_owned(),
        },
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
