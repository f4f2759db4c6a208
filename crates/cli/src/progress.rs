//! Shows what is being done: a spinner on a terminal, a line for each step elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::note;

/// Steps that come and go, some at the same time.
#[derive(Debug)]
pub(crate) struct Progress {
    spinner: ProgressBar,
    terminal: bool,
    running: BTreeMap<String, Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let spinner = if terminal {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        let style =
            ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("the template is valid");
        spinner.set_style(style);
        if terminal {
            spinner.enable_steady_tick(Duration::from_millis(80));
        }
        Self {
            spinner,
            terminal,
            running: BTreeMap::new(),
        }
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, name: &str) {
        self.running.insert(name.to_owned(), Instant::now());
        self.show();
    }

    /// A step is done.
    pub(crate) fn done(&mut self, name: &str) {
        let took = self
            .running
            .remove(name)
            .map(|start| start.elapsed())
            .unwrap_or_default();
        self.done_as(name, name, took);
    }

    /// A step is done, and took this long; `label` is what is shown of it.
    pub(crate) fn done_as(&mut self, name: &str, label: &str, took: Duration) {
        self.running.remove(name);
        self.line(&format!("✓ {label:<22} {}", seconds(took)));
        self.show();
    }

    /// A line above the spinner.
    pub(crate) fn line(&self, text: &str) {
        if self.terminal {
            self.spinner.println(text);
        } else {
            note!("{text}");
        }
    }

    fn show(&self) {
        let names: Vec<&str> = self.running.keys().map(String::as_str).collect();
        self.spinner.set_message(names.join(", "));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}

/// `0.42 s`, `12 s`.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}
