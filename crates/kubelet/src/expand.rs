//! `$(NAME)` in commands, arguments and environment values.

/// Replaces each `$(NAME)` by what `lookup` knows; an unknown name stays as it
/// is, and `$$` is one `$`, so that `$$(NAME)` is the text `$(NAME)`.
pub(crate) fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("plain", "plain")]
    #[case("$(A)", "one")]
    #[case("x$(A)y$(B)z", "xoneytwoz")]
    #[case("$(MISSING)", "$(MISSING)")]
    #[case("$$(A)", "$(A)")]
    #[case("$$$(A)", "$one")]
    #[case("$(A", "$(A")]
    #[case("$A $ $", "$A $ $")]
    #[case("$()", "$()")]
    #[case("ü$(A)é", "üoneé")]
    fn names_are_replaced(#[case] text: &str, #[case] expected: &str) {
        let lookup = |name: &str| match name {
            "A" => Some("one"),
            "B" => Some("two"),
            _ => None,
        };
        assert_eq!(expand(text, lookup), expected);
    }
}
