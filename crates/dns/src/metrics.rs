//! Numbers in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) udp_requests: AtomicU64,
    pub(crate) tcp_requests: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) refused_clients: AtomicU64,
    pub(crate) refused_busy: AtomicU64,
    pub(crate) cluster_answers: AtomicU64,
    pub(crate) completions: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) cache_misses: AtomicU64,
    pub(crate) stale_answers: AtomicU64,
    pub(crate) upstream_queries: AtomicU64,
    pub(crate) upstream_failures: AtomicU64,
    pub(crate) upstream_refusals: AtomicU64,
    pub(crate) loops: AtomicU64,
    pub(crate) mistakes: AtomicU64,
    /// By response code; the last is any other.
    pub(crate) responses: [AtomicU64; CODES.len()],
    pub(crate) duration: Histogram,
}

const CODES: [&str; 7] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "OTHER",
];

/// One more; tells how many there were before.
pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

/// What is true now, beside what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Answers of others that are remembered.
    pub remembered: usize,
    /// Whether the cluster's names are known.
    pub ready: bool,
}

impl Metrics {
    /// A reply went out: its bytes.
    pub(crate) fn note_reply(&self, reply: &[u8], took: Duration) {
        let code = reply.get(3).map_or(0xf, |byte| usize::from(byte & 0xf));
        count(&self.responses[code.min(CODES.len() - 1)]);
        self.duration.observe(took);
    }

    /// All of it as text.
    pub fn text(&self, gauges: Gauges) -> String {
        let mut text = String::new();
        family(
            &mut text,
            "requests_total",
            "Questions, by transport",
            "protocol",
            &[("udp", &self.udp_requests), ("tcp", &self.tcp_requests)],
        );
        let codes: Vec<_> = CODES.iter().copied().zip(&self.responses).collect();
        family(
            &mut text,
            "responses_total",
            "Replies, by response code",
            "rcode",
            &codes,
        );
        let counters = [
            (
                "malformed_total",
                "Messages that were no questions",
                &self.malformed,
            ),
            (
                "cluster_answers_total",
                "Answers from the cluster's own names",
                &self.cluster_answers,
            ),
            (
                "completions_total",
                "Search lists gone through for a client",
                &self.completions,
            ),
            (
                "cache_hits_total",
                "Answers of others that were remembered",
                &self.cache_hits,
            ),
            ("cache_misses_total", "Questions that weren't", &self.cache_misses),
            (
                "stale_answers_total",
                "Old answers given for want of new ones",
                &self.stale_answers,
            ),
            (
                "upstream_queries_total",
                "Questions sent to other servers",
                &self.upstream_queries,
            ),
            (
                "upstream_failures_total",
                "Of those, not answered",
                &self.upstream_failures,
            ),
            (
                "upstream_refusals_total",
                "Of those, answered with a failure",
                &self.upstream_refusals,
            ),
            (
                "loops_total",
                "Questions of servers that they would be sent to",
                &self.loops,
            ),
            (
                "limit_refusals_total",
                "Questions refused because too many waited",
                &self.refused_busy,
            ),
            (
                "foreign_refusals_total",
                "Questions refused because strangers asked",
                &self.refused_clients,
            ),
            (
                "setting_mistakes_total",
                "Settings that could not be understood",
                &self.mistakes,
            ),
        ];
        for (name, help, counter) in counters {
            single(&mut text, name, "counter", help, counter.load(Ordering::Relaxed));
        }
        single(
            &mut text,
            "cache_entries",
            "gauge",
            "Answers of others that are remembered",
            gauges.remembered as u64,
        );
        single(
            &mut text,
            "ready",
            "gauge",
            "Whether the cluster's names are known",
            gauges.ready.into(),
        );
        self.duration.write(&mut text);
        text
    }
}

// A String takes everything that is written to it.
fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(
        text,
        "# HELP ripstop_dns_{name} {help}\n# TYPE ripstop_dns_{name} {kind}\n"
    );
}

fn single(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(text, name, kind, help);
    let _ = writeln!(text, "ripstop_dns_{name} {value}");
}

fn family(text: &mut String, name: &str, help: &str, label: &str, values: &[(&str, &AtomicU64)]) {
    head(text, name, "counter", help);
    for (value, counter) in values {
        let count = counter.load(Ordering::Relaxed);
        let _ = writeln!(text, "ripstop_dns_{name}{{{label}=\"{value}\"}} {count}");
    }
}

/// How long answers took.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    total: AtomicU64,
    microseconds: AtomicU64,
}

/// In microseconds.
const BOUNDS: [u64; 10] = [
    10, 50, 100, 500, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000,
];

impl Histogram {
    fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BOUNDS.iter().position(|bound| took <= *bound) {
            count(&self.buckets[at]);
        }
        count(&self.total);
        self.microseconds.fetch_add(took, Ordering::Relaxed);
    }

    fn write(&self, text: &mut String) {
        let name = "request_duration_seconds";
        head(text, name, "histogram", "How long answers took");
        let seconds = |microseconds: u64| microseconds as f64 / 1e6;
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let bound = seconds(*bound);
            let _ = writeln!(text, "ripstop_dns_{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let total = self.total.load(Ordering::Relaxed);
        let sum = seconds(self.microseconds.load(Ordering::Relaxed));
        let _ = writeln!(text, "ripstop_dns_{name}_bucket{{le=\"+Inf\"}} {total}");
        let _ = writeln!(text, "ripstop_dns_{name}_sum {sum}");
        let _ = writeln!(text, "ripstop_dns_{name}_count {total}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_by_code_and_time() {
        let metrics = Metrics::default();
        metrics.note_reply(&[0, 0, 0x80, 0x83], Duration::from_micros(20));
        metrics.note_reply(&[0, 0, 0x80, 0x09], Duration::from_secs(9));
        let text = metrics.text(Gauges {
            remembered: 7,
            ready: true,
        });
        for line in [
            "ripstop_dns_responses_total{rcode=\"NXDOMAIN\"} 1",
            "ripstop_dns_responses_total{rcode=\"OTHER\"} 1",
            "ripstop_dns_request_duration_seconds_bucket{le=\"0.00005\"} 1",
            "ripstop_dns_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "ripstop_dns_cache_entries 7",
            "ripstop_dns_ready 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
