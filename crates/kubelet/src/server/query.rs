//! Query strings.

use std::collections::HashMap;
use std::str::FromStr;

use super::answer::Refusal;

/// A request's parameters.
#[derive(Debug, Default)]
pub(super) struct Query(HashMap<String, Vec<String>>);

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Self {
        let mut all: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            all.entry(key.into_owned()).or_default().push(value.into_owned());
        }
        Self(all)
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The first value that says something.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).iter().map(String::as_str).find(|v| !v.is_empty())
    }

    /// Whether a parameter is set, under any of its names.
    pub(super) fn flag(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| matches!(self.text(name), Some("1" | "true" | "True" | "TRUE" | "t")))
    }

    /// A parameter that must be a number.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| Refusal::bad_request(format!("{name}: {text:?} is not a valid number")))
        };
        self.text(name).map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read() {
        let query = Query::parse(Some(
            "command=ls&command=-l&command=a%20b&tty=1&output=false&tailLines=5&bad=x",
        ));
        assert_eq!(query.all("command"), ["ls", "-l", "a b"]);
        assert!(query.flag(&["stdin", "tty"]) && !query.flag(&["output"]));
        assert_eq!(query.number::<u64>("tailLines").unwrap(), Some(5));
        assert_eq!(query.number::<u64>("none").unwrap(), None);
        assert!(query.number::<u64>("bad").is_err());
    }
}
