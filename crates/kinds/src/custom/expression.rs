//! Regular expressions of clients, in Go's dialect (RE2), as Kubernetes reads them.
//!
//! The engine here knows nearly the same language. Where it doesn't, an expression is rewritten: classes like
//! `\w` are of ASCII alone, and characters that mean something here but nothing there are escaped.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

/// How much memory an expression may take, compiled. A definition has room for many.
const LARGEST: usize = 1 << 20;

/// Compiles a regular expression of a client's.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&rewrite(pattern)).size_limit(LARGEST).build()
}

/// How much work it is to compile an expression, roughly in states of its automaton; nothing if it is none. To
/// know it is little work.
pub(crate) fn size(pattern: &str) -> usize {
    regex_syntax::parse(&rewrite(pattern)).map_or(0, |parsed| states(&parsed))
}

fn states(part: &Hir) -> usize {
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => class.ranges().len(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            states(&repetition.sub).saturating_mul(usize::try_from(times).unwrap_or(usize::MAX))
        }
        HirKind::Capture(capture) => states(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(states).fold(0, usize::saturating_add)
        }
    }
}

fn rewrite(pattern: &str) -> String {
    let mut rest = pattern.chars().peekable();
    let mut out = String::with_capacity(pattern.len());
    while let Some(char) = rest.next() {
        match char {
            '\\' => escape(&mut rest, &mut out),
            '[' => class(&mut rest, &mut out),
            '{' if !counts(rest.clone()) => out.push_str("\\{"),
            other => out.push(other),
        }
    }
    out
}

/// What follows a backslash outside of classes.
fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    match rest.next() {
        Some('b') => out.push_str("(?-u:\\b)"),
        Some('B') => out.push_str("(?-u:\\B)"),
        Some('Q') => quote(rest, out),
        // With a name or a number in braces.
        Some(other @ ('p' | 'P' | 'x')) => {
            out.extend(['\\', other]);
            out.extend(rest.next_if_eq(&'{'));
        }
        // Ends of words, here.
        Some(other @ ('<' | '>')) => out.push(other),
        Some(other) => match ascii(other) {
            Some(class) => out.push_str(class),
            None => out.extend(['\\', other]),
        },
        None => out.push('\\'),
    }
}

/// The text up to `\E`, as it is.
fn quote(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    while let Some(char) = rest.next() {
        if char == '\\' && rest.peek() == Some(&'E') {
            rest.next();
            break;
        }
        text.push(char);
    }
    out.push_str(&regex::escape(&text));
}

/// The class that an escape stands for.
fn ascii(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\x0C\\r ]",
        'S' => "[^\\t\\n\\x0C\\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// A class, from behind its bracket to the bracket that ends it. There are none within others in Go's dialect,
/// but for names like `[:alpha:]`.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    out.extend(rest.next_if_eq(&'^'));
    // As the first it ends nothing.
    if rest.next_if_eq(&']').is_some() {
        out.push_str("\\]");
    }
    while let Some(char) = rest.next() {
        match char {
            ']' => return out.push(']'),
            '[' if rest.peek() == Some(&':') => named(rest, out),
            '[' | '&' | '~' => out.extend(['\\', char]),
            '\\' => match rest.next() {
                Some(other) => match ascii(other) {
                    Some(class) => out.push_str(class),
                    None => out.extend(['\\', other]),
                },
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
}

fn named(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    for char in rest.by_ref() {
        out.push(char);
        if char == ']' {
            return;
        }
    }
}

/// Whether what follows a brace is a number of times, as in `{2,3}`. If not, the brace is one like any character.
fn counts(mut rest: Peekable<Chars<'_>>) -> bool {
    let mut digits = 0;
    let mut commas = 0;
    loop {
        match rest.next() {
            Some('0'..='9') => digits += 1,
            Some(',') if digits > 0 && commas == 0 => commas += 1,
            Some('}') => return digits > 0,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{compile, size};

    #[rstest]
    #[case::word("^\\w+$", &["a_1"], &["é", ""])]
    #[case::not_word("^\\W$", &["é", "-"], &["a"])]
    #[case::digit("^\\d$", &["1"], &["٣"])]
    #[case::not_digit("^\\D$", &["٣"], &["1"])]
    #[case::space("^\\s$", &[" ", "\t"], &["\u{a0}", "\u{b}"])]
    #[case::in_a_class("^[\\w-]+$", &["a-b"], &["é"])]
    #[case::not_in_a_class("^[^\\s]$", &["\u{a0}"], &[" "])]
    #[case::boundary("\\bb", &["éb", "b"], &["ab"])]
    #[case::no_boundary("a\\Bb", &["ab"], &["a b"])]
    #[case::a_bracket_in_a_class("^[[a]$", &["[", "a"], &["]"])]
    #[case::a_bracket_that_is_first("^[]a]$", &["]", "a"], &["["])]
    #[case::ands_in_a_class("^[a&&b]+$", &["a&b"], &["c"])]
    #[case::named("^[[:alpha:]\\d]$", &["x", "1"], &["é", ":"])]
    #[case::a_brace("^{a}$", &["{a}"], &["a"])]
    #[case::a_brace_without_a_least("^a{,2}$", &["a{,2}"], &["aa"])]
    #[case::counted("^a{1,2}$", &["a", "aa"], &["aaa"])]
    #[case::ends_of_words("^\\<a\\>$", &["<a>"], &["a"])]
    #[case::quoted("^\\Qa.b\\E$", &["a.b"], &["acb"])]
    #[case::unicode("^\\p{L}.$", &["éé"], &["1é"])]
    fn an_expression_means_what_it_means_to_go(
        #[case] pattern: &str,
        #[case] fits: &[&str],
        #[case] others: &[&str],
    ) {
        let expression = compile(pattern).unwrap();
        for text in fits {
            assert!(expression.is_match(text), "{pattern} {text:?}");
        }
        for text in others {
            assert!(!expression.is_match(text), "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_grows_when_it_is_compiled_is_known_before() {
        assert!(size("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$") < 500);
        assert!(size("(a{100}){100}") >= 10_000);
        assert!(size("\\pL{1000}") > 100_000);
        assert_eq!(size("("), 0);
    }

    #[test]
    fn what_is_no_expression_is_none() {
        for pattern in ["[", "(", "a{2,1}", "*", "\\", "[\\", "a**(", "[[:alpha"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
