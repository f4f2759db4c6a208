//! What was measured, beside what it is held to.

use std::fmt;

use crate::compare::{Comparison, Tables};

/// Everything measured so far.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
    pub(crate) comparisons: Vec<Comparison>,
}

#[derive(Debug)]
struct Figure {
    what: String,
    value: f64,
    unit: Unit,
    bar: Option<f64>,
    note: String,
}

/// How a value is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Seconds,
    Millis,
    MiB,
    PerSecond,
    /// Of one processor.
    Percent,
    /// Relative to something measured in the same run.
    Times,
}

impl Unit {
    pub(crate) fn write(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Millis => format!("{value:.3} ms"),
            Self::MiB => format!("{value:.1} MiB"),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Percent => format!("{value:.2} %"),
            Self::Times => format!("{value:.2} ×"),
        }
    }
}

impl Figures {
    /// Adds a figure; a bar is the most that it may be.
    pub(crate) fn add(&mut self, what: &str, value: f64, unit: Unit, bar: Option<f64>, note: String) {
        let figure = Figure {
            what: what.to_owned(),
            value,
            unit,
            bar,
            note,
        };
        eprintln!("  {what}: {}", unit.write(value));
        self.figures.push(figure);
    }

    /// Adds the median of several rounds, with their range.
    pub(crate) fn add_median(&mut self, what: &str, rounds: &[f64], unit: Unit, bar: Option<f64>) {
        let (least, most) = (quantile(rounds, 0.0), quantile(rounds, 1.0));
        let note = format!(
            "median of {}: {} to {}",
            rounds.len(),
            unit.write(least),
            unit.write(most)
        );
        self.add(what, quantile(rounds, 0.5), unit, bar, note);
    }

    /// Adds several ways of doing the same thing.
    pub(crate) fn compare(&mut self, comparison: Comparison) {
        eprint!("  {}, {}:", comparison.path, comparison.traffic.name());
        for way in &comparison.ways {
            let cost = comparison.traffic.show(quantile(&way.costs, 0.5));
            eprint!(" {} {cost} ({:.2} ×)", way.name, comparison.ratio(way).median);
        }
        eprintln!();
        self.comparisons.push(comparison);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.figures.is_empty() {
            writeln!(f, "| what | measured | bar | | |")?;
            writeln!(f, "| --- | --- | --- | --- | --- |")?;
        }
        for Figure {
            what,
            value,
            unit,
            bar,
            note,
        } in &self.figures
        {
            let mark = mark(*value, *bar);
            let bar = bar.map_or_else(|| "–".to_owned(), |bar| format!("≤ {}", unit.write(bar)));
            writeln!(f, "| {what} | {} | {bar} | {mark} | {note} |", unit.write(*value))?;
        }
        Tables(&self.comparisons).fmt(f)
    }
}

/// Whether a value holds its bar, if it has one.
pub(crate) fn mark(value: f64, bar: Option<f64>) -> &'static str {
    match bar {
        Some(bar) if value <= bar => "✓",
        Some(_) => "✗",
        None => "",
    }
}

/// The value that this share of them doesn't exceed; 0 of none.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_need_no_order() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 0.5), 3.0);
        assert_eq!(quantile(&values, 0.99), 5.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn the_table_marks_what_misses_its_bar() {
        let mut figures = Figures::default();
        figures.add_median("a", &[1.0, 3.0, 2.0], Unit::Seconds, Some(2.5));
        figures.add("b", 70.0, Unit::MiB, Some(60.0), String::new());
        figures.add("c", 1.1, Unit::Times, None, "n".into());
        let expected = "\
| what | measured | bar | | |
| --- | --- | --- | --- | --- |
| a | 2.00 s | ≤ 2.50 s | ✓ | median of 3: 1.00 s to 3.00 s |
| b | 70.0 MiB | ≤ 60.0 MiB | ✗ |  |
| c | 1.10 × | – |  | n |
";
        assert_eq!(figures.to_string(), expected);
    }
}
