//! Arguments, durations and sizes: the little that this program needs of them.

use std::str::FromStr;
use std::time::Duration;

use crate::failure::Failure;

/// A command's words, taken out one by one; what is left over is an error.
pub(crate) struct Args {
    words: Vec<String>,
}

impl Args {
    /// Takes a command's words; `--help` among them ends it with `help`.
    pub(crate) fn new(words: &[String], help: &'static str) -> Result<Self, Failure> {
        let asked = |word: &String| word == "--help" || word == "-h";
        if words.iter().take_while(|word| *word != "--").any(asked) {
            return Err(Failure::Help(help));
        }
        Ok(Self {
            words: words.to_vec(),
        })
    }

    /// Whether the switch is there.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// Every value of an option, given as `--name value` or `--name=value`.
    pub(crate) fn values(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        let mut kept = Vec::new();
        let mut words = std::mem::take(&mut self.words).into_iter();
        while let Some(word) = words.next() {
            if word == name {
                let value = words.next();
                found.push(value.ok_or_else(|| Failure::Usage(format!("{name} wants a value")))?);
            } else if let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                found.push(value.to_owned());
            } else {
                kept.push(word);
            }
        }
        self.words = kept;
        Ok(found)
    }

    /// An option's value, read by `read`; the last one given counts.
    pub(crate) fn option<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.values(name)?.pop() else {
            return Ok(None);
        };
        let value = read(&text).map_err(|why| Failure::Usage(format!("{name} {text}: {why}")))?;
        Ok(Some(value))
    }

    /// What is left once the options are taken: between `least` and `most` words.
    pub(crate) fn rest(self, least: usize, most: usize) -> Result<Vec<String>, Failure> {
        let mut rest = Vec::new();
        let mut literal = false;
        for word in self.words {
            match word.as_str() {
                "--" if !literal => literal = true,
                option if !literal && option.len() > 1 && option.starts_with('-') => {
                    return Err(Failure::Usage(format!(
                        "there is no option `{option}`; --help lists them"
                    )));
                }
                _ => rest.push(word),
            }
        }
        if rest.len() < least {
            return Err(Failure::Usage("an argument is missing; --help says which".into()));
        }
        if let Some(extra) = rest.get(most) {
            return Err(Failure::Usage(format!("`{extra}` is one too many")));
        }
        Ok(rest)
    }
}

/// A number of any type that can read itself.
pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a number that fits here"))
}

/// `500ms`, `3s`, `1.5s`, `2m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is not a duration such as 500ms or 3s")),
    };
    digits
        .parse::<f64>()
        .ok()
        .and_then(|value| Duration::try_from_secs_f64(value * scale).ok())
        .ok_or_else(|| format!("`{text}` is not a duration such as 500ms or 3s"))
}

/// `10MiB`, `4kB`, `512`: bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "k" | "kB" | "K" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return Err(format!("`{text}` is not a size such as 10MiB")),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|value| value.checked_mul(scale))
        .ok_or_else(|| format!("`{text}` is not a size such as 10MiB"))
}

fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Args {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Args::new(&words, "help").unwrap()
    }

    #[test]
    fn options_are_taken_in_both_forms_and_the_last_counts() {
        let mut args = args(&["--n", "1", "x", "--n=2", "--flag"]);
        assert_eq!(args.option("--n", number::<u32>), Ok(Some(2)));
        assert!(args.switch("--flag"));
        assert_eq!(args.rest(1, 1), Ok(vec!["x".to_owned()]));
    }

    #[test]
    fn unknown_options_missing_values_and_extra_words_are_errors() {
        assert!(matches!(args(&["--x"]).rest(0, 9), Err(Failure::Usage(_))));
        assert!(matches!(args(&["--n"]).values("--n"), Err(Failure::Usage(_))));
        assert!(matches!(args(&["a", "b"]).rest(1, 1), Err(Failure::Usage(_))));
        assert!(matches!(args(&[]).rest(1, 1), Err(Failure::Usage(_))));
        assert_eq!(args(&["--", "--x"]).rest(1, 1), Ok(vec!["--x".to_owned()]));
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(size("10MiB"), Ok(10 << 20));
        assert_eq!(size("4kB"), Ok(4000));
        for bad in ["", "ms", "-1s", "1x", "1e400h", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "MiB", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
