//! How large an expression may be. What is deep in its text is deep on the stack of whatever reads it, and
//! nothing that a client writes may exhaust that.

/// Kubernetes' limit, in characters.
const LONGEST: usize = 100_000;
/// The same, in levels of whatever is in something else.
const DEEPEST: usize = 250;

/// What it takes to read and run the deepest expression there may be.
const STACK: usize = 16 << 20;

/// Runs what goes as deep as expressions do.
pub(crate) fn with_stack<T>(run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK, 2 * STACK, run)
}

/// Refuses what is too long or too deep.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if length > LONGEST {
        return Err(format!(
            "ERROR: <input>:-1:0: expression code point size exceeds limit: size: {length}, limit {LONGEST}"
        ));
    }
    if depth(text) > DEEPEST {
        return Err(format!(
            "ERROR: <input>:-1:0: expression recursion limit exceeded: {DEEPEST}"
        ));
    }
    Ok(())
}

/// What lies between two brackets, as far as it was read.
#[derive(Default)]
struct Level {
    /// The deepest part that has ended, or lies in brackets.
    deepest: usize,
    /// Operators and selections, each of which holds what was before it.
    chain: usize,
    /// Brackets in the part that is being read.
    inner: usize,
    choices: usize,
}

impl Level {
    /// A part ends where another begins that doesn't hold it.
    fn part(&mut self) {
        self.deepest = self.deepest.max(self.chain + self.inner);
        (self.chain, self.inner) = (0, 0);
    }

    fn end(mut self) -> usize {
        self.part();
        self.deepest + self.choices
    }
}

/// About how deep an expression is, and not less.
fn depth(text: &str) -> usize {
    let mut levels = vec![Level::default()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = token(rest);
        let (token, after) = rest.split_at(length);
        rest = after;
        let Some(level) = levels.last_mut() else { break };
        match c {
            '(' | '[' | '{' => {
                level.chain += 1;
                levels.push(Level::default());
            }
            ')' | ']' | '}' => {
                let ended = levels.pop().map_or(0, Level::end);
                match levels.last_mut() {
                    Some(level) => level.inner = level.inner.max(ended),
                    // One bracket too many: the parser will say so.
                    None => levels.push(Level::default()),
                }
            }
            ',' | '&' | '|' => level.part(),
            '?' => level.choices += 1,
            '.' | '!' | '-' | '+' | '*' | '/' | '%' | '<' | '>' | '=' => level.chain += 1,
            _ if token == "in" => level.chain += 1,
            _ => {}
        }
    }
    // Brackets that aren't closed.
    levels
        .into_iter()
        .map(|level| level.end() + 1)
        .sum::<usize>()
        .saturating_sub(1)
}

/// The length of the token that a text begins with; texts and comments are one, whatever is in them.
fn token(text: &str) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let first = text.chars().next().map_or(0, char::len_utf8);
    if let Some(comment) = text.strip_prefix("//") {
        return comment.find('\n').map_or(text.len(), |end| end + 2);
    }
    for quote in ["'''", "\"\"\"", "'", "\""] {
        if text.starts_with(quote) {
            return quoted(text, quote, false);
        }
    }
    let length = text.find(|c| !word(c)).unwrap_or(text.len());
    let rest = &text[length..];
    // A prefix such as r, which leaves backslashes as they are.
    if (1..=2).contains(&length) && rest.starts_with(['\'', '"']) {
        let raw = text[..length].contains(['r', 'R']);
        let quotes = ["'''", "\"\"\"", "'", "\""];
        let quote = quotes.into_iter().find(|quote| rest.starts_with(quote));
        return length + quote.map_or(0, |quote| quoted(rest, quote, raw));
    }
    length.max(first)
}

fn quoted(text: &str, quote: &str, raw: bool) -> usize {
    let mut at = quote.len();
    while let Some(c) = text[at..].chars().next() {
        if text[at..].starts_with(quote) {
            return at + quote.len();
        }
        at += c.len_utf8();
        if c == '\\' && !raw {
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_that_of_what_holds_what() {
        for (text, expected) in [
            ("true", 0),
            ("a.b.c == 1", 3 + 1),
            ("a.b == 1 && c.d == 2 && e.f == 3", 2 + 1),
            ("f(g(h(1)))", 3),
            ("[1, 2, [3]]", 2),
            ("a ? b : c ? d : e", 2),
            ("!!!a", 3),
            ("'((((' + r\"\\\" + '''a'b''' // ((((", 2),
            ("\"\\\"((\" == ''", 2),
            ("(((", 3 + 3),
        ] {
            assert!(
                (expected..=expected + 3).contains(&depth(text)),
                "{text}: {}",
                depth(text)
            );
        }
        assert!(check(&"a.b == 1 && ".repeat(1000)).is_ok());
        for deep in ["(", "!", "[1, ", "1 + ", "a.", "x ? y : ", "a in "] {
            assert!(check(&deep.repeat(300)).is_err(), "{deep}");
        }
        assert!(check(&"a, ".repeat(40_000)).is_err());
    }
}
