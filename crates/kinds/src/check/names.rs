//! The formats of names, labels and keys, with Kubernetes' messages. Each check returns what is wrong, one
//! message for each rule that is broken.

use crate::check::errors::{Errors, Field};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// A format check.
pub(crate) type Check = fn(&str) -> Vec<String>;

/// A DNS label: `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, at most 63 characters.
pub(crate) fn label(name: &str) -> Vec<String> {
    let mut messages = at_most(name, 63);
    if !is_label(name) {
        messages.push(if is_subdomain(name) {
            "must not contain dots".to_owned()
        } else {
            pattern(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    messages
}

/// A DNS label as RFC 1035 has it: it begins with a letter.
pub(crate) fn label_1035(name: &str) -> Vec<String> {
    let mut messages = at_most(name, 63);
    if !is_label(name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        messages.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    messages
}

/// A DNS subdomain: labels with dots between them, at most 253 characters.
pub(crate) fn subdomain(name: &str) -> Vec<String> {
    let mut messages = at_most(name, 253);
    if !is_subdomain(name) {
        messages.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    messages
}

/// A host's name, perhaps with a wildcard in place of its first label.
pub(crate) fn host(name: &str) -> Vec<String> {
    if !name.contains('*') {
        return subdomain(name);
    }
    let mut messages = at_most(name, 253);
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        messages.push(pattern(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    messages
}

/// A DNS name with a domain, perhaps with the root's dot at its end.
pub(crate) fn fully_qualified(errors: &mut Errors, name: &str, path: &Field) {
    let name = name.strip_suffix('.').unwrap_or(name);
    let messages = subdomain(name);
    if name.is_empty() {
        errors.required(path, "");
    } else if !messages.is_empty() {
        errors.invalid(path, name, &messages.join(","));
    } else if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, name, detail);
    } else if let Some(part) = name.split('.').find(|part| !label(part).is_empty()) {
        errors.invalid(path, part, &label(part).join(","));
    }
}

/// What can stand as one part of a path: almost anything, as roles are called.
pub(crate) fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    let forbidden = ["/", "%"].into_iter().filter(|part| name.contains(part));
    forbidden
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// The path of a URL.
pub(crate) fn http_path(path: &str) -> Vec<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.is_empty() && path.chars().all(allowed) {
        return Vec::new();
    }
    let regex = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    vec![format!("Invalid path (regex used for validation is '{regex}')")]
}

/// A label's or annotation's key: a name, optionally after a DNS subdomain and a slash.
pub(crate) fn qualified(key: &str) -> Vec<String> {
    const RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut messages = Vec::new();
    let mut parts = key.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                messages.extend(
                    subdomain(prefix)
                        .into_iter()
                        .map(|message| format!("prefix part {message}")),
                );
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                pattern(RULE, QUALIFIED, &EXAMPLES)
            )];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        messages.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_qualified(name) {
        messages.push(format!("name part {}", pattern(RULE, QUALIFIED, &EXAMPLES)));
    }
    messages
}

/// A label's value.
pub(crate) fn label_value(value: &str) -> Vec<String> {
    let mut messages = at_most(value, 63);
    if !value.is_empty() && !is_qualified(value) {
        messages.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    messages
}

/// A port's name, by the rules of IANA service names.
pub(crate) fn port(name: &str) -> Vec<String> {
    let mut messages = at_most(name, 15);
    let mut rule = |broken: bool, message: &str| {
        if broken {
            messages.push(message.to_owned());
        }
    };
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    rule(
        name.is_empty() || !name.chars().all(allowed),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    rule(
        !name.contains(|c: char| c.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    rule(name.contains("--"), "must not contain consecutive hyphens");
    rule(
        name.starts_with('-') || name.ends_with('-'),
        "must not begin or end with a hyphen",
    );
    messages
}

/// A key of a ConfigMap or Secret: it can become a file's name.
pub(crate) fn config_key(key: &str) -> Vec<String> {
    let mut messages = at_most(key, 253);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if key.is_empty() || !key.chars().all(allowed) {
        messages.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match key {
        "." => messages.push("must not be '.'".to_owned()),
        ".." => messages.push("must not be '..'".to_owned()),
        _ if key.starts_with("..") => messages.push("must not start with '..'".to_owned()),
        _ => {}
    }
    messages
}

/// An environment variable's name.
pub(crate) fn environment(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if name.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// The name of an HTTP header.
pub(crate) fn http_header(name: &str) -> Vec<String> {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Vec::new();
    }
    vec![pattern(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// `generateName` is a name that something is added to, so it may end in a dash.
pub(crate) fn as_prefix(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => name.to_owned(),
    }
}

fn at_most(text: &str, most: usize) -> Vec<String> {
    if text.len() > most {
        vec![format!("must be no more than {most} characters")]
    } else {
        Vec::new()
    }
}

fn is_label(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric)
        && name.chars().all(|c| alphanumeric(c) || c == '-')
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(is_label)
}

fn is_qualified(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric)
        && name
            .chars()
            .all(|c| alphanumeric(c) || matches!(c, '-' | '_' | '.'))
}

/// Kubernetes' wording of a broken pattern.
fn pattern(rule: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<_> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!(
        "{rule} (e.g. {}regex used for validation is '{regex}')",
        examples.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::label(label, &["a", "a-b", "1", "0a"], &["", "-a", "a-", "A", "a.b", "a_b", "ä"])]
    #[case::label_1035(label_1035, &["a", "a-1"], &["", "1a", "-a", "a-", "A", "a.b"])]
    #[case::subdomain(subdomain, &["a", "a.b", "1.2", "a-b.c"], &["", "a..b", ".a", "a.", "A_b", "a/b"])]
    #[case::qualified(qualified, &["a", "A_b.c", "example.com/a", "a.b/C"], &["", "/a", "a/", "a/b/c", "-a", "a-", "A/b"])]
    #[case::label_value(label_value, &["", "a", "A_b.c-d"], &["-a", "a/b", "a b", "_"])]
    #[case::port(port, &["http", "p1", "a-b"], &["", "1", "a--b", "-a", "a-", "Http", "abcdefghijklmnop"])]
    #[case::config_key(config_key, &["a", "A.b_c-d", ".hidden"], &["", ".", "..", "..a", "a/b", "a b"])]
    #[case::environment(environment, &["A", "a.b-c", "a b", "1"], &["", "A=B", "ä"])]
    fn formats(#[case] check: Check, #[case] good: &[&str], #[case] bad: &[&str]) {
        for name in good {
            assert_eq!(check(name), Vec::<String>::new(), "{name:?}");
        }
        for name in bad {
            assert!(!check(name).is_empty(), "{name:?}");
        }
    }

    #[test]
    fn messages_are_kubernetes_own() {
        assert_eq!(
            subdomain("A_b"),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(label("a.b"), ["must not contain dots"]);
        assert_eq!(label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(
            label_value("a b"),
            [
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ]
        );
    }
}
