//! What `kubectl get` shows of custom objects.

use serde_json::Value;

use crate::columns;
use crate::kind::Column;

use super::path::Path;
use super::schema::Schema;

/// A printer column.
#[derive(Debug)]
pub(crate) struct Printer {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i32,
    /// None where it can't be read, which definitions that are let in don't have.
    path: Option<Path>,
}

impl Printer {
    pub(crate) fn new(column: &Value) -> Printer {
        let column = Schema(column);
        let text = |field| column.text(field).to_owned();
        let priority = column.get("priority").and_then(Value::as_i64).unwrap_or(0);
        Printer {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: text("description"),
            priority: i32::try_from(priority).unwrap_or(i32::MAX),
            path: Path::parse(column.text("jsonPath")).ok(),
        }
    }

    fn column(&self) -> Column<'_> {
        Column {
            name: &self.name,
            kind: &self.kind,
            format: &self.format,
            priority: self.priority,
            description: &self.description,
        }
    }

    fn cell(&self, object: &Value, now: i64) -> Value {
        let found = self
            .path
            .as_ref()
            .and_then(|path| path.find(object).into_iter().next());
        match (self.kind.as_str(), found) {
            (_, None) => Value::Null,
            ("string", Some(value)) => as_text(value),
            ("integer", Some(Value::Number(number))) => match number.as_i64() {
                Some(integer) => integer.into(),
                None => number.as_f64().map_or(Value::Null, |float| (float as i64).into()),
            },
            ("number", Some(Value::Number(number))) => number.clone().into(),
            ("boolean", Some(Value::Bool(value))) => (*value).into(),
            ("date", Some(Value::String(time))) => match columns::seconds(time) {
                Some(_) => columns::since(time, now).into(),
                None => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

fn as_text(value: &Value) -> Value {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Null => "<nil>".into(),
        other => other.to_string().into(),
    }
}

/// The columns of a kind: without any of its own, the age.
pub(crate) fn columns(printers: &[Printer]) -> Vec<Column<'_>> {
    match printers {
        [] => vec![columns::NAME, columns::AGE],
        printers => std::iter::once(columns::NAME)
            .chain(printers.iter().map(Printer::column))
            .collect(),
    }
}

/// The cells of one object.
pub(crate) fn row(printers: &[Printer], object: &Value, now: i64) -> Vec<Value> {
    match printers {
        [] => columns::name_and_age(object, now),
        printers => {
            let cells = printers.iter().map(|printer| printer.cell(object, now));
            std::iter::once(columns::name(object)).chain(cells).collect()
        }
    }
}
