//! Label selectors: parsed from a query, compared with labels.

/// One condition on an object's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requirement {
    pub(crate) key: String,
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

impl Requirement {
    /// Whether a label's value, if there is one, meets the condition.
    pub(crate) fn matches(&self, value: Option<&String>) -> bool {
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

/// A label selector: requirements with commas between them.
pub(crate) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
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
    use std::collections::HashMap;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: HashMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        parse(selector)
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
            assert!(parse(selector).is_err(), "{selector}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[a-z/!=<>(), .é-]{0,24}|.{0,24}") {
            if let Ok(requirements) = parse(&text) {
                proptest::prop_assert!(!requirements.is_empty());
            }
        }
    }
}
