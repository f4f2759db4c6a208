//! Several ways of doing the same thing, measured in turns.

use std::fmt;

use crate::figures::{Unit, mark, quantile};
use crate::traffic::Traffic;

/// One kind of traffic on one path.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Such as `on one node`.
    pub(crate) path: &'static str,
    pub(crate) traffic: Traffic,
    /// The first is what the others are compared with.
    pub(crate) ways: Vec<Way>,
}

/// What one way costs, round by round.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) costs: Vec<f64>,
    /// Whether it's what is measured, and not what it is compared with.
    pub(crate) ours: bool,
    /// The most that its share of the first one's cost may be.
    pub(crate) bar: Option<f64>,
}

impl Way {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            costs: Vec::new(),
            ours: false,
            bar: None,
        }
    }
}

/// Least, middle and most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let [least, median, most] = [0.0, 0.5, 1.0].map(|share| quantile(values, share));
        Self { least, median, most }
    }
}

impl Comparison {
    /// What a way costs beside the first one. Both were measured in every round, one right after
    /// the other, so rounds are compared and not medians: what disturbs a round disturbs both.
    pub(crate) fn ratio(&self, way: &Way) -> Spread {
        let base = self.ways.first().map_or(&[][..], |way| &way.costs);
        let ratios: Vec<f64> = way
            .costs
            .iter()
            .zip(base)
            .map(|(cost, base)| cost / base)
            .collect();
        Spread::of(&ratios)
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.traffic.name().to_owned()];
        for (number, way) in self.ways.iter().enumerate() {
            let cost = self.traffic.show(Spread::of(&way.costs).median);
            let Spread { least, median, most } = self.ratio(way);
            cells.push(match number {
                0 => cost,
                _ if way.ours => format!("{cost}, **{median:.2} ×** ({least:.2} to {most:.2})"),
                _ => format!("{cost}, {median:.2} ×"),
            });
            if way.ours {
                let bar = way.bar.map(|bar| format!("≤ {}", Unit::Times.write(bar)));
                cells.push(bar.unwrap_or_else(|| "–".to_owned()));
                cells.push(mark(median, way.bar).to_owned());
            }
        }
        cells
    }
}

/// Tables of comparisons, one a path.
pub(crate) struct Tables<'a>(pub(crate) &'a [Comparison]);

impl fmt::Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.chunk_by(|one, next| one.path == next.path) {
            let Some(first) = part.first() else { continue };
            let mut head = vec![format!("pod to pod {}", first.path)];
            for way in &first.ways {
                head.push(way.name.to_owned());
                if way.ours {
                    head.extend(["bar".to_owned(), String::new()]);
                }
            }
            writeln!(f, "\n| {} |", head.join(" | "))?;
            writeln!(f, "|{}", " --- |".repeat(head.len()))?;
            for comparison in part {
                writeln!(f, "| {} |", comparison.cells().join(" | "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Vec<Comparison> {
        let way = |name, costs: [f64; 3]| Way {
            costs: costs.to_vec(),
            ours: name == "Ripstop",
            bar: (name == "Ripstop" && costs[0] > 1e-6).then_some(0.94),
            ..Way::new(name)
        };
        let latency = Comparison {
            path: "on one node",
            traffic: Traffic::RequestResponse,
            ways: vec![
                way("plain routing", [20e-6, 30e-6, 22e-6]),
                way("Ripstop", [19e-6, 27e-6, 22e-6]),
                way("bridge", [22e-6, 33e-6, 24.2e-6]),
            ],
        };
        let bulk = Comparison {
            path: "across nodes",
            traffic: Traffic::OneStream,
            ways: vec![
                way("plain routing", [0.2e-9, 0.2e-9, 0.2e-9]),
                way("Ripstop", [0.1e-9, 0.1e-9, 0.2e-9]),
            ],
        };
        vec![latency, bulk]
    }

    #[test]
    fn rounds_are_compared_not_medians() {
        let one = &example()[0];
        let spread = one.ratio(&one.ways[1]);
        for (found, wanted) in [(spread.least, 0.9), (spread.median, 0.95), (spread.most, 1.0)] {
            assert!((found - wanted).abs() < 1e-9, "{spread:?}");
        }
        assert_eq!(one.ratio(&one.ways[0]).most, 1.0);
    }

    #[test]
    fn a_table_a_path_with_its_marks() {
        let expected = "
| pod to pod on one node | plain routing | Ripstop | bar |  | bridge |
| --- | --- | --- | --- | --- | --- |
| request and response | 22.0 µs | 22.0 µs, **0.95 ×** (0.90 to 1.00) | ≤ 0.94 × | ✗ | 24.2 µs, 1.10 × |

| pod to pod across nodes | plain routing | Ripstop | bar |  |
| --- | --- | --- | --- | --- |
| one TCP stream | 40.0 Gbit/s | 80.0 Gbit/s, **0.50 ×** (0.50 to 1.00) | – |  |
";
        assert_eq!(Tables(&example()).to_string(), expected);
    }
}
