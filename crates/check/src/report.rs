//! What was found, as rows: a table for people, JSON for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// More rows of one check than this that all passed are shown as one.
const SHOWN: usize = 12;

/// What a run found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The image that the pods ran.
    pub image: String,
    /// How long it took, with cleaning up.
    pub seconds: f64,
    /// What was found, in the order of the checks.
    pub rows: Vec<Row>,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What kind of thing, such as `pod to pod, across nodes`.
    pub check: String,
    /// Which one, such as `node-1 → node-2`.
    pub path: String,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Outcome {
    /// It works.
    Passed {
        /// What was seen.
        detail: String,
    },
    /// It doesn't.
    Failed {
        /// What was seen instead.
        cause: String,
        /// Where to look.
        next: String,
    },
    /// It wasn't tried, which is nobody's fault.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl Row {
    pub(crate) fn passed(check: &str, path: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(check, path, Outcome::Passed { detail })
    }

    pub(crate) fn failed(
        check: &str,
        path: impl Into<String>,
        cause: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        let (cause, next) = (cause.into(), next.into());
        Self::new(check, path, Outcome::Failed { cause, next })
    }

    pub(crate) fn skipped(check: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::new(check, "", Outcome::Skipped { reason })
    }

    fn new(check: &str, path: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            check: check.to_owned(),
            path: path.into(),
            outcome,
        }
    }

    /// Whether it was tried and doesn't work.
    pub fn is_failure(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }
}

impl Report {
    /// Whether nothing that was tried failed.
    pub fn passed(&self) -> bool {
        !self.rows.iter().any(Row::is_failure)
    }

    /// How many passed, failed and were skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.rows
            .iter()
            .fold((0, 0, 0), |(passed, failed, skipped), row| match row.outcome {
                Outcome::Passed { .. } => (passed + 1, failed, skipped),
                Outcome::Failed { .. } => (passed, failed + 1, skipped),
                Outcome::Skipped { .. } => (passed, failed, skipped + 1),
            })
    }

    /// The rows as the table shows them: long runs of successes as one.
    fn lines(&self) -> Vec<Row> {
        let mut lines = Vec::new();
        for group in self.rows.chunk_by(|a, b| a.check == b.check) {
            let all_passed = group
                .iter()
                .all(|row| matches!(row.outcome, Outcome::Passed { .. }));
            if all_passed && group.len() > SHOWN {
                let count = group.len();
                lines.push(Row::passed(&group[0].check, format!("all {count} of them"), ""));
            } else {
                lines.extend_from_slice(group);
            }
        }
        lines
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let width = |text: fn(&Row) -> &str| {
            let widths = lines.iter().map(|row| text(row).chars().count());
            widths.max().unwrap_or(0)
        };
        let check_width = width(|row| &row.check);
        let path_width = width(|row| &row.path);
        let mut before = "";
        for Row { check, path, outcome } in &lines {
            // A check's name is written once.
            let name = if check == before { "" } else { check };
            before = check;
            let (mark, text) = match outcome {
                Outcome::Passed { detail } => ('✓', detail),
                Outcome::Failed { cause, .. } => ('✗', cause),
                Outcome::Skipped { reason } => ('–', reason),
            };
            let line = format!("{mark} {name:check_width$}  {path:path_width$}  {text}");
            writeln!(f, "{}", line.trim_end())?;
            if let Outcome::Failed { next, .. } = outcome {
                writeln!(f, "  {:check_width$}  {:path_width$}  → {next}", "", "")?;
            }
        }
        let (passed, failed, skipped) = self.counts();
        write!(f, "\n{passed} passed, {failed} failed")?;
        if skipped > 0 {
            write!(f, ", {skipped} skipped")?;
        }
        writeln!(f, " in {:.1} s", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: Vec<Row>) -> Report {
        Report {
            image: "i".into(),
            seconds: 2.34,
            rows,
        }
    }

    #[test]
    fn the_table_aligns_and_says_what_to_do_next() {
        let report = report(vec![
            Row::passed("pod to pod", "node-1 → node-2", "0.4 ms"),
            Row::failed("pod to pod", "node-2 → node-1", "timed out", "look at the routes"),
            Row::skipped("outside", "no listener"),
        ]);
        let expected = "\
✓ pod to pod  node-1 → node-2  0.4 ms
✗             node-2 → node-1  timed out
                               → look at the routes
– outside                      no listener

1 passed, 1 failed, 1 skipped in 2.3 s
";
        assert_eq!(report.to_string(), expected);
        assert!(!report.passed());
    }

    #[test]
    fn many_successes_are_one_line_and_failures_are_never_hidden() {
        let rows = |n| {
            (0..n)
                .map(|i| Row::passed("a", format!("{i}"), ""))
                .collect::<Vec<_>>()
        };
        assert!(report(rows(20)).to_string().starts_with("✓ a  all 20 of them\n"));
        let mut mixed = rows(20);
        mixed.push(Row::failed("a", "x", "c", "n"));
        assert_eq!(report(mixed).to_string().matches('✓').count(), 20);
    }

    #[test]
    fn json_keeps_every_row_and_reads_back() {
        let rows = vec![Row::failed("a", "p", "c", "n"), Row::skipped("b", "r")];
        let text = serde_json::to_string(&report(rows.clone())).unwrap();
        assert!(text.contains(r#"{"check":"a","path":"p","result":"failed","cause":"c","next":"n"}"#));
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(back.rows, rows);
    }
}
