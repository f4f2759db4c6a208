//! The JSONPath of Kubernetes' tools, as printer columns have it: `.status.conditions[?(@.type=="Ready")].status`.

use std::collections::HashSet;

use serde_json::Value;

/// A path, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// All elements or fields.
    Every,
    /// This value and everything in it.
    Deep,
    /// Elements from one place to another; negative places count from the end.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Filter(Operand, Comparison, Operand),
    /// Elements that have something there.
    Exists(Path),
    Union(Vec<Step>),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longest first, so that none hides another.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl Path {
    /// Parses a path, without the braces of templates.
    pub(crate) fn parse(text: &str) -> Result<Path, String> {
        let mut parser = Parser { rest: text };
        let path = parser.path()?;
        match parser.rest {
            "" => Ok(path),
            rest => Err(format!("unexpected {rest:?}")),
        }
    }

    /// Every value that the path leads to.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![value], |values, step| {
            let mut found: Vec<_> = values.into_iter().flat_map(|value| step.of(value)).collect();
            if matches!(step, Step::Deep) {
                // What is in one of the values and in another that is in it is there once. Otherwise each further
                // `..` of a path would multiply what there is.
                let mut seen = HashSet::new();
                found.retain(|value| seen.insert(std::ptr::from_ref(*value)));
            }
            found
        })
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Step::Field(name) => value.get(name).into_iter().collect(),
            Step::Every => children(value),
            Step::Deep => everything(value),
            Step::Index(index) => {
                let place = place(*index, length(value));
                value.get(place).into_iter().collect()
            }
            Step::Slice(from, to, by) => slice(value, *from, *to, *by),
            Step::Filter(left, comparison, right) => {
                let fits = |element: &&Value| holds(left.of(element), *comparison, right.of(element));
                children(value).into_iter().filter(fits).collect()
            }
            Step::Exists(path) => {
                let has = |element: &&Value| !path.find(element).is_empty();
                children(value).into_iter().filter(has).collect()
            }
            Step::Union(steps) => steps.iter().flat_map(|step| step.of(value)).collect(),
        }
    }
}

impl Operand {
    fn of<'a>(&'a self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Operand::Path(path) => path.find(value).into_iter().next(),
            Operand::Literal(literal) => Some(literal),
        }
    }
}

fn holds(left: Option<&Value>, comparison: Comparison, right: Option<&Value>) -> bool {
    let (Some(left), Some(right)) = (left, right) else {
        return false;
    };
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (left, right) => match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => None,
        },
    };
    match comparison {
        Comparison::Equal => left == right || order.is_some_and(|order| order.is_eq()),
        Comparison::NotEqual => left != right && !order.is_some_and(|order| order.is_eq()),
        Comparison::Less => order.is_some_and(|order| order.is_lt()),
        Comparison::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Comparison::Greater => order.is_some_and(|order| order.is_gt()),
        Comparison::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

fn length(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

/// A place from the start; one before the start is none at all.
fn place(index: i64, length: usize) -> usize {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let index = if index < 0 { index + length } else { index };
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn slice(value: &Value, from: Option<i64>, to: Option<i64>, by: i64) -> Vec<&Value> {
    let Some(list) = value.as_array() else {
        return Vec::new();
    };
    let bound = |index: Option<i64>, none: usize| index.map_or(none, |index| place(index, list.len()));
    let (from, to) = (bound(from, 0), bound(to, list.len()).min(list.len()));
    let by = usize::try_from(by).unwrap_or(1).max(1);
    list.get(from..to)
        .unwrap_or_default()
        .iter()
        .step_by(by)
        .collect()
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn everything(value: &Value) -> Vec<&Value> {
    let inner = children(value).into_iter().flat_map(everything);
    std::iter::once(value).chain(inner).collect()
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn path(&mut self) -> Result<Path, String> {
        let mut steps = Vec::new();
        loop {
            if self.take("..") {
                steps.push(Step::Deep);
                if !self.rest.starts_with('[') {
                    steps.extend(self.name()?);
                }
            } else if self.take(".") {
                if self.rest.starts_with('[') || self.rest.is_empty() {
                    continue;
                }
                steps.extend(self.name()?);
            } else if self.take("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(Path(steps));
            }
        }
    }

    /// A field's name, with `\` before a character that would end it.
    fn name(&mut self) -> Result<Option<Step>, String> {
        if self.take("*") {
            return Ok(Some(Step::Every));
        }
        let mut name = String::new();
        let mut characters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
                '.' | '[' | ']' | '=' | '!' | '<' | '>' | ')' | ',' | ' ' => {
                    end = index;
                    break;
                }
                other => name.push(other),
            }
        }
        self.rest = &self.rest[end..];
        if name.is_empty() {
            return Err("a field has no name".to_owned());
        }
        Ok(Some(Step::Field(name)))
    }

    fn bracket(&mut self) -> Result<Step, String> {
        if self.take("?(") {
            let step = self.filter()?;
            return if self.take(")]") {
                Ok(step)
            } else {
                Err("unterminated filter".to_owned())
            };
        }
        let mut steps = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            steps.push(self.element()?);
            self.rest = self.rest.trim_start();
            if self.take("]") {
                break;
            }
            if !self.take(",") {
                return Err("unterminated array".to_owned());
            }
        }
        Ok(match steps.len() {
            1 => steps.remove(0),
            _ => Step::Union(steps),
        })
    }

    fn element(&mut self) -> Result<Step, String> {
        if self.take("*") {
            return Ok(Step::Every);
        }
        if let Some(text) = self.quoted()? {
            return Ok(Step::Field(text));
        }
        let first = self.number()?;
        if !self.take(":") {
            let index = first.ok_or_else(|| format!("invalid array index {:?}", self.rest))?;
            return Ok(Step::Index(index));
        }
        let to = self.number()?;
        let by = if self.take(":") { self.number()? } else { None };
        Ok(Step::Slice(first, to, by.unwrap_or(1)))
    }

    fn number(&mut self) -> Result<Option<i64>, String> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_digit() && c != '-')
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        if digits.is_empty() {
            return Ok(None);
        }
        self.rest = rest;
        digits
            .parse()
            .map(Some)
            .map_err(|_| format!("invalid array index {digits:?}"))
    }

    fn quoted(&mut self) -> Result<Option<String>, String> {
        let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                end if end == quote => {
                    self.rest = &self.rest[index + 1..];
                    return Ok(Some(text));
                }
                other => text.push(other),
            }
        }
        Err("unterminated string".to_owned())
    }

    fn filter(&mut self) -> Result<Step, String> {
        let left = self.operand()?;
        self.rest = self.rest.trim_start();
        let comparison = COMPARISONS.iter().find(|(token, _)| self.take(token));
        match (left, comparison) {
            (left, Some((_, comparison))) => {
                let right = self.operand()?;
                self.rest = self.rest.trim_start();
                Ok(Step::Filter(left, *comparison, right))
            }
            (Operand::Path(path), None) => Ok(Step::Exists(path)),
            (Operand::Literal(_), None) => Err("a filter compares nothing".to_owned()),
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.rest = self.rest.trim_start();
        if self.take("@") {
            return self.path().map(Operand::Path);
        }
        if let Some(text) = self.quoted()? {
            return Ok(Operand::Literal(text.into()));
        }
        let end = self
            .rest
            .find([')', ' ', '=', '!', '<', '>'])
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match serde_json::from_str(word) {
            Ok(literal) => Ok(Operand::Literal(literal)),
            Err(_) => Err(format!("unrecognized identifier {word}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str) -> Value {
        let object = json!({
            "metadata": { "annotations": { "a.b/c": "x" } },
            "spec": { "ports": [{ "port": 1 }, { "port": 2 }, { "port": 3 }], "size": 7 },
            "status": { "conditions": [{ "type": "Synced", "status": "False" }, { "type": "Ready", "status": "True" }] },
        });
        Path::parse(path)
            .unwrap()
            .find(&object)
            .into_iter()
            .cloned()
            .collect()
    }

    #[test]
    fn paths_lead_where_they_do_in_kubernetes() {
        assert_eq!(found(".spec.size"), json!([7]));
        assert_eq!(found(".spec.none"), json!([]));
        assert_eq!(found(r".metadata.annotations.a\.b/c"), json!(["x"]));
        assert_eq!(found(".metadata.annotations['a.b/c']"), json!(["x"]));
        assert_eq!(
            found(r#".status.conditions[?(@.type=="Ready")].status"#),
            json!(["True"])
        );
        assert_eq!(
            found(".status.conditions[?(@.type!='Ready')].type"),
            json!(["Synced"])
        );
        assert_eq!(found(".spec.ports[?(@.port > 1)].port"), json!([2, 3]));
        assert_eq!(found(".spec.ports[?(@.none)]"), json!([]));
        assert_eq!(found(".spec.ports[*].port"), json!([1, 2, 3]));
        assert_eq!(found(".spec.ports[-1].port"), json!([3]));
        assert_eq!(found(".spec.ports[0:2].port"), json!([1, 2]));
        assert_eq!(found(".spec.ports[0,2].port"), json!([1, 3]));
        assert_eq!(found("..port"), json!([1, 2, 3]));
    }

    #[test]
    fn broken_paths_are_refused() {
        for path in [
            ".a[",
            ".a[x]",
            ".a[?(@.b",
            ".a[?(1)]",
            ".a[?(@.b==x)]",
            "a b",
            ".a['b",
        ] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics(text in r#"[.\[\]?@()*'"=<>!,:\\a0-9 -]{0,24}"#) {
            if let Ok(path) = Path::parse(&text) {
                path.find(&json!({ "a": [1, { "a": "0" }] }));
            }
        }
    }

    #[test]
    fn what_is_deep_inside_is_found_once_however_often_is_looked() {
        let mut object = json!({ "x": 1 });
        for _ in 0..40 {
            object = json!({ "a": object });
        }
        let path = format!("{}x", "..*".repeat(12) + "..");
        assert_eq!(Path::parse(&path).unwrap().find(&object), [&json!(1)]);
        let path = Path::parse("..a..x").unwrap();
        assert_eq!(path.find(&object), [&json!(1)]);
    }
}
