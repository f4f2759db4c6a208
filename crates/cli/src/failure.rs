//! What went wrong, for a person: one line that says what, one that says what to do.

use std::fmt::Display;
use std::process::ExitCode;

use supervisor::preflight::Problem;

use crate::output::note;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    problems: Vec<Problem>,
    /// Printed before: the end of a log, say.
    context: Vec<String>,
    usage: bool,
}

impl Failure {
    pub(crate) fn new(what: impl Display, cure: impl Display) -> Self {
        let problem = Problem {
            what: what.to_string(),
            cure: cure.to_string(),
            fatal: true,
        };
        Self::several(vec![problem])
    }

    /// Several at once.
    pub(crate) fn several(problems: Vec<Problem>) -> Self {
        Self {
            problems,
            context: Vec::new(),
            usage: false,
        }
    }

    /// It was asked for wrongly: exit status 2.
    pub(crate) fn usage(what: impl Display, cure: impl Display) -> Self {
        Self {
            usage: true,
            ..Self::new(what, cure)
        }
    }

    /// As [`Failure::usage`], several at once.
    pub(crate) fn usage_of_several(problems: Vec<Problem>) -> Self {
        Self {
            usage: true,
            ..Self::several(problems)
        }
    }

    /// What was to be said has been said; the exit status tells the rest.
    pub(crate) fn silent() -> Self {
        Self::several(Vec::new())
    }

    /// What is printed before it.
    pub(crate) fn with_context(mut self, lines: Vec<String>) -> Self {
        self.context.extend(lines);
        self
    }

    pub(crate) fn print(&self) {
        for line in &self.context {
            note!("{line}");
        }
        for problem in &self.problems {
            print_problem("error", problem);
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

/// Prints what and cure.
pub(crate) fn print_problem(kind: &str, problem: &Problem) {
    note!("{kind}: {}", problem.what);
    if !problem.cure.is_empty() {
        note!("  → {}", problem.cure);
    }
}

impl From<supervisor::Error> for Failure {
    fn from(error: supervisor::Error) -> Self {
        use supervisor::Error;
        let usage = matches!(
            error,
            Error::ClusterName(_)
                | Error::NodeCount { .. }
                | Error::WrongFamily { .. }
                | Error::TwoOfOneFamily { .. }
                | Error::FamilyOrder { .. }
                | Error::RangeReserved { .. }
                | Error::RangeTooSmall { .. }
                | Error::PodRangeTooSmall { .. }
                | Error::RangesOverlap { .. }
                | Error::NoNode { .. }
        );
        Self {
            usage,
            ..Self::new(&error, error.cure())
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"), "")
    }
}
