//! Kinds of traffic between two pods, each boiled down to what one unit of it costs.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::pair::{ECHO, Pair, SINK, Server, Toolbox};

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// A byte there and back on a kept connection.
    RequestResponse,
    /// An HTTP request on a connection of its own.
    ConnectionPerRequest,
    /// One TCP stream, as much as gets through.
    OneStream,
    /// Eight of them at once.
    EightStreams,
    /// UDP datagrams of 64 bytes, as many as get through.
    SmallDatagrams,
}

impl Traffic {
    pub(crate) const ALL: [Self; 5] = [
        Self::RequestResponse,
        Self::ConnectionPerRequest,
        Self::OneStream,
        Self::EightStreams,
        Self::SmallDatagrams,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RequestResponse => "request and response",
            Self::ConnectionPerRequest => "connection per request",
            Self::OneStream => "one TCP stream",
            Self::EightStreams => "eight TCP streams",
            Self::SmallDatagrams => "UDP of 64 bytes",
        }
    }

    /// A cost as people say it: time per request, or how much gets through.
    pub(crate) fn show(self, cost: f64) -> String {
        match self {
            Self::RequestResponse | Self::ConnectionPerRequest => format!("{:.1} µs", cost * 1e6),
            Self::OneStream | Self::EightStreams => format!("{:.1} Gbit/s", 8e-9 / cost),
            Self::SmallDatagrams => format!("{:.0} k/s", 1e-3 / cost),
        }
    }

    /// Starts the server of a pair. Where client and server take turns they share a processor:
    /// what is measured then is the path, not how soon an idle processor wakes up.
    pub(crate) fn serve(self, toolbox: &Toolbox, pair: &Pair) -> Result<Server> {
        let takes_turns = matches!(self, Self::RequestResponse | Self::ConnectionPerRequest);
        toolbox.serve(pair, usize::from(!takes_turns))
    }

    /// Sends for so many seconds; what a unit cost, in seconds.
    pub(crate) fn cost(self, toolbox: &Toolbox, pair: &Pair, seconds: f64) -> Result<f64> {
        let words = self.words(pair, seconds);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = toolbox.ask(pair, 0, &words)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let wrong = || {
            let complaint = String::from_utf8_lossy(&output.stderr);
            format!("`toolbox {}`: {said}{complaint}", words.join(" "))
        };
        let report: Value = serde_json::from_str(said.trim()).with_context(wrong)?;
        self.read(&report).with_context(wrong)
    }

    fn words(self, pair: &Pair, seconds: f64) -> Vec<String> {
        let at = |scheme: &str, port| {
            let at = std::net::SocketAddr::new(pair.asked(), port);
            format!("{scheme}://{at}")
        };
        let (command, url, more) = match self {
            Self::RequestResponse => ("load", at("tcp", ECHO), &[][..]),
            Self::ConnectionPerRequest => ("load", at("http", 8080), &["--fresh"][..]),
            Self::OneStream => ("flood", at("tcp", SINK), &[][..]),
            Self::EightStreams => ("flood", at("tcp", SINK), &["--streams", "8"][..]),
            Self::SmallDatagrams => ("flood", at("udp", SINK), &["--size", "64"][..]),
        };
        let seconds = seconds.to_string();
        let words = [command, "--json", "--seconds", &seconds, &url];
        words.iter().chain(more).map(ToString::to_string).collect()
    }

    /// A unit's cost out of what the toolbox reports.
    fn read(self, report: &Value) -> Result<f64> {
        if !matches!(self, Self::RequestResponse | Self::ConnectionPerRequest) {
            let rate = report["rate"].as_f64().filter(|rate| *rate > 0.0);
            return Ok(1.0 / rate.context("nothing got through")?);
        }
        if report["failed"].as_u64() != Some(0) {
            bail!("requests failed");
        }
        let median = report["ms"]["p50"].as_f64().filter(|median| *median > 0.0);
        Ok(median.context("nothing was answered")? * 1e-3)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_become_the_cost_of_a_unit() {
        let report = json!({"failed": 0, "ms": {"p50": 0.02}, "rate": 7.0});
        let cost = Traffic::RequestResponse.read(&report).unwrap();
        assert_eq!(Traffic::RequestResponse.show(cost), "20.0 µs");
        let cost = Traffic::EightStreams.read(&json!({"rate": 5e9})).unwrap();
        assert_eq!(Traffic::EightStreams.show(cost), "40.0 Gbit/s");
        let cost = Traffic::SmallDatagrams.read(&json!({"rate": 250_000})).unwrap();
        assert_eq!(Traffic::SmallDatagrams.show(cost), "250 k/s");
    }

    #[test]
    fn what_failed_or_got_nowhere_is_no_measurement() {
        for report in [
            json!({"failed": 1, "ms": {"p50": 0.02}}),
            json!({"failed": 0, "ms": {"p50": 0.0}}),
            json!({"failed": 0}),
            json!({}),
        ] {
            assert!(Traffic::ConnectionPerRequest.read(&report).is_err(), "{report}");
        }
        for report in [json!({"rate": 0.0}), json!({})] {
            assert!(Traffic::OneStream.read(&report).is_err(), "{report}");
        }
    }
}
