//! Label and field selectors.

use std::collections::HashMap;

use kinds::Kind;
use serde::Deserialize;
use serde_json::Value;

use crate::path::Query;
use crate::status::Failure;

/// Which objects a request is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// True as well where the label is absent.
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

#[derive(Debug, Clone)]
struct FieldRequirement {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Debug, Clone)]
enum Field {
    Name,
    Namespace,
    /// Of the kind's own.
    Other(fn(&Value) -> String),
}

/// What label selectors need of an object: the rest isn't read.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    namespace: std::borrow::Cow<'a, str>,
    labels: HashMap<String, String>,
}

impl Selection {
    pub(crate) fn parse(kind: &Kind, query: &Query) -> Result<Selection, Failure> {
        let labels = match query.get("labelSelector") {
            Some(text) => parse_labels(text)
                .map_err(|why| Failure::bad_request(format!("unable to parse requirement: {why}")))?,
            None => Vec::new(),
        };
        let fields = match query.get("fieldSelector") {
            Some(text) => parse_fields(kind, text)?,
            None => Vec::new(),
        };
        Ok(Selection { labels, fields })
    }

    /// The same, of one object only.
    pub(crate) fn and_name(mut self, name: &str) -> Selection {
        self.fields.push(FieldRequirement {
            field: Field::Name,
            value: name.to_owned(),
            equal: true,
        });
        self
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one object that can match, where the selection names it.
    pub(crate) fn name(&self) -> Option<&str> {
        let named =
            |requirement: &&FieldRequirement| requirement.equal && matches!(requirement.field, Field::Name);
        self.fields
            .iter()
            .find(named)
            .map(|requirement| requirement.value.as_str())
    }

    /// Whether a stored object belongs to the selection.
    pub(crate) fn matches(&self, object: &[u8]) -> bool {
        if self.is_everything() {
            return true;
        }
        let Ok(head) = serde_json::from_slice::<Head<'_>>(object) else {
            return false;
        };
        let metadata = head.metadata;
        let labels = self
            .labels
            .iter()
            .all(|requirement| requirement.matches(metadata.labels.get(&requirement.key)));
        labels && self.fields_match(&metadata, object)
    }

    fn fields_match(&self, metadata: &Metadata<'_>, object: &[u8]) -> bool {
        // Read whole only when a field of the kind's own is asked for, and then once.
        let mut whole = None;
        self.fields.iter().all(|requirement| {
            let equal = match requirement.field {
                Field::Name => metadata.name == requirement.value,
                Field::Namespace => metadata.namespace == requirement.value,
                Field::Other(text) => {
                    let object: &Value =
                        whole.get_or_insert_with(|| serde_json::from_slice(object).unwrap_or_default());
                    text(object) == requirement.value
                }
            };
            equal == requirement.equal
        })
    }
}

impl Requirement {
    fn matches(&self, value: Option<&String>) -> bool {
        match (&self.test, value) {
            (Test::Exists, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
            (Test::In(values), Some(value)) => values.contains(value),
            (Test::NotIn(values), Some(value)) => !values.contains(value),
            (Test::NotIn(_), None) => true,
            (Test::Greater(bound), Some(value)) => value.parse::<i64>().is_ok_and(|v| v > *bound),
            (Test::Less(bound), Some(value)) => value.parse::<i64>().is_ok_and(|v| v < *bound),
            (Test::In(_) | Test::Greater(_) | Test::Less(_), None) => false,
        }
    }
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<FieldRequirement>, Failure> {
    text.split(',')
        .filter(|term| !term.is_empty())
        .map(|term| {
            let parsed = [("!=", false), ("==", true), ("=", true)]
                .into_iter()
                .find_map(|(operator, equal)| Some((term.split_once(operator)?, equal)));
            let Some(((name, value), equal)) = parsed else {
                return Err(Failure::bad_request(format!(
                    "invalid field selector: {text:?}; can't understand {term:?}"
                )));
            };
            Ok(FieldRequirement {
                field: find_field(kind, name)?,
                value: value.to_owned(),
                equal,
            })
        })
        .collect()
}

fn find_field(kind: &Kind, name: &str) -> Result<Field, Failure> {
    match name {
        "metadata.name" => Ok(Field::Name),
        "metadata.namespace" if kind.namespaced => Ok(Field::Namespace),
        _ => match kind.fields.iter().find(|(label, _)| *label == name) {
            Some((_, text)) => Ok(Field::Other(*text)),
            None => Err(Failure::bad_request(format!("field label not supported: {name}"))),
        },
    }
}

/// A label selector: requirements with commas between them.
fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    let mut tokens = Tokens { rest: text };
    let mut requirements = Vec::new();
    loop {
        requirements.push(requirement(&mut tokens)?);
        match tokens.next() {
            None => return Ok(requirements),
            Some(",") => {}
            Some(other) => return Err(format!("found {other:?}, expected: ',' or 'end of string'")),
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, String> {
    let (key, absent) = match tokens.next() {
        Some("!") => (tokens.word("a label's name")?, true),
        Some(word) if Tokens::is_word(word) => (word, false),
        other => return Err(unexpected(other, "!, identifier, or 'end of string'")),
    };
    check_key(key)?;
    let test = if absent {
        Test::Absent
    } else {
        match tokens.peek() {
            None | Some(",") => Test::Exists,
            Some(operator) => {
                tokens.next();
                comparison(operator, tokens)?
            }
        }
    };
    Ok(Requirement {
        key: key.to_owned(),
        test,
    })
}

fn comparison(operator: &str, tokens: &mut Tokens<'_>) -> Result<Test, String> {
    match operator {
        "=" | "==" => Ok(Test::In(vec![value(tokens)?])),
        "!=" => Ok(Test::NotIn(vec![value(tokens)?])),
        "in" => values(tokens).map(Test::In),
        "notin" => values(tokens).map(Test::NotIn),
        ">" | "gt" => number(tokens).map(Test::Greater),
        "<" | "lt" => number(tokens).map(Test::Less),
        other => Err(format!("found {other:?}, expected: in, notin, =, ==, !=, gt, lt")),
    }
}

/// A single value; nothing at all is the empty one.
fn value(tokens: &mut Tokens<'_>) -> Result<String, String> {
    match tokens.peek() {
        None | Some(",") => Ok(String::new()),
        _ => {
            let value = tokens.word("a value")?;
            check_value(value)?;
            Ok(value.to_owned())
        }
    }
}

fn number(tokens: &mut Tokens<'_>) -> Result<i64, String> {
    let text = tokens.word("a number")?;
    text.parse()
        .map_err(|_| format!("for 'Gt', 'Lt' operators, the value must be an integer, not {text:?}"))
}

/// Values in parentheses; an empty place between commas is the empty value.
fn values(tokens: &mut Tokens<'_>) -> Result<Vec<String>, String> {
    let open = tokens.next();
    if open != Some("(") {
        return Err(unexpected(open, "'('"));
    }
    let mut values = Vec::new();
    loop {
        let value = match tokens.peek() {
            Some("," | ")") => "",
            _ => tokens.word("a value")?,
        };
        check_value(value)?;
        values.push(value.to_owned());
        match tokens.next() {
            Some(",") => {}
            Some(")") => return Ok(values),
            other => return Err(unexpected(other, "',' or ')'")),
        }
    }
}

fn unexpected(found: Option<&str>, expected: &str) -> String {
    format!("found {:?}, expected: {expected}", found.unwrap_or_default())
}

/// A label's name: an optional DNS prefix, a slash, and up to 63 characters.
fn check_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            let prefix_ok = !prefix.is_empty()
                && prefix.len() <= 253
                && prefix
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
            if !prefix_ok {
                return Err(format!("prefix part {prefix:?} must be a DNS subdomain"));
            }
            name
        }
        None => key,
    };
    if name.is_empty() || !is_label_text(name) {
        return Err(format!(
            "name part {name:?} must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        ));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), String> {
    if is_label_text(value) {
        return Ok(());
    }
    Err(format!(
        "values: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    ))
}

fn is_label_text(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let ends = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    text.len() <= 63 && text.bytes().all(inner) && ends(text.bytes().next()) && ends(text.bytes().last())
}

/// Words and operators of a label selector.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let first = rest.chars().next()?;
        let operator = |c: char| "=!<>".contains(c);
        let length = match first {
            ',' | '(' | ')' => 1,
            // `!` alone negates; with `=` it compares.
            '!' if !rest.starts_with("!=") => 1,
            c if operator(c) => rest.find(|c| !operator(c)).unwrap_or(rest.len()),
            _ => rest
                .find(|c: char| c.is_whitespace() || ",()".contains(c) || operator(c))
                .unwrap_or(rest.len()),
        };
        Some(&rest[..length])
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.peek()?;
        self.rest = &self.rest.trim_start()[token.len()..];
        Some(token)
    }

    fn is_word(token: &str) -> bool {
        !token.starts_with([',', '(', ')', '=', '!', '<', '>'])
    }

    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        match self.next() {
            Some(token) if Tokens::is_word(token) => Ok(token),
            other => Err(unexpected(other, what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: HashMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        parse_labels(selector)
            .unwrap()
            .iter()
            .all(|requirement| requirement.matches(labels.get(&requirement.key)))
    }

    #[test]
    fn labels_are_compared_as_kubernetes_does() {
        let web = [("app", "web"), ("tier", "front"), ("n", "7"), ("empty", "")];
        for selector in [
            "app=web",
            "app==web,tier=front",
            "app!=db",
            "missing!=x",
            "app",
            "!missing",
            "app in (db, web)",
            "app notin (db,cache)",
            "missing notin (a)",
            "n>6,n<8",
            "empty=",
            "empty in (,x)",
            " app = web , tier ",
            "x in (a),!y".replace("x in (a)", "app").as_str(),
        ] {
            assert!(selects(selector, &web), "{selector}");
        }
        for selector in [
            "app=db",
            "app!=web",
            "missing",
            "!app",
            "app in (db)",
            "missing in (a)",
            "app notin (web)",
            "n>7",
            "app>1",
        ] {
            assert!(!selects(selector, &web), "{selector}");
        }
    }

    #[test]
    fn broken_selectors_are_refused() {
        for selector in [
            ",",
            "app=web,",
            "=x",
            "app in web",
            "app in (a",
            "app=a=b",
            "a b",
            "-a",
            "app===x",
            "!",
            "n>x",
            "app=_x",
        ] {
            assert!(parse_labels(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn fields_are_read_from_the_object() {
        let pod = kinds::find("", "v1", "pods").unwrap();
        let object = br#"{"metadata":{"name":"a","namespace":"b"}}"#;
        let selection = |text: &str| {
            let query = Query::parse(Some(&format!("fieldSelector={text}")));
            Selection::parse(pod, &query)
        };
        assert!(
            selection("metadata.name=a,metadata.namespace!=c")
                .unwrap()
                .matches(object)
        );
        assert!(!selection("metadata.name!=a").unwrap().matches(object));
        assert_eq!(selection("metadata.name==a").unwrap().name(), Some("a"));
        assert_eq!(
            selection("spec.colour=red").unwrap_err().message,
            "field label not supported: spec.colour"
        );
    }
}
