//! The figures as a kubelet's `/metrics/resource`, under Kubernetes' names: what metrics servers read.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{Figures, PodFigures};

/// One measurement, in seconds or bytes.
struct Sample {
    labels: String,
    value: f64,
    /// When it was taken.
    at: Timestamp,
}

/// The whole text.
pub(crate) fn text(figures: &Figures) -> String {
    let mut text = String::new();
    let at = figures.at;
    let node = |value: Option<f64>| Vec::from_iter(value.map(|value| sample(String::new(), value, at)));
    let usage = &figures.node.usage;
    write(
        &mut text,
        "node_cpu_usage_seconds_total",
        "counter",
        "Processor time that the node has used",
        node(usage.cpu_nanos.map(seconds)),
    );
    write(
        &mut text,
        "node_memory_working_set_bytes",
        "gauge",
        "Memory that the node uses",
        node(usage.working_set.map(bytes)),
    );
    let of_pods = |value: &dyn Fn(&PodFigures) -> Option<f64>| {
        let samples = figures
            .pods
            .iter()
            .filter_map(|pod| Some(sample(labels(pod, None), value(pod)?, at)));
        samples.collect::<Vec<_>>()
    };
    write(
        &mut text,
        "pod_cpu_usage_seconds_total",
        "counter",
        "Processor time that the pod has used",
        of_pods(&|pod| pod.counted.usage.cpu_nanos.map(seconds)),
    );
    write(
        &mut text,
        "pod_memory_working_set_bytes",
        "gauge",
        "Memory that the pod uses",
        of_pods(&|pod| pod.counted.usage.working_set.map(bytes)),
    );
    containers(&mut text, figures);
    write(
        &mut text,
        "resource_scrape_error",
        "gauge",
        "1 if the figures could not be had",
        vec![Sample {
            labels: String::new(),
            value: 0.0,
            at,
        }],
    );
    text
}

fn containers(text: &mut String, figures: &Figures) {
    let (mut cpu, mut memory, mut start) = (Vec::new(), Vec::new(), Vec::new());
    for pod in &figures.pods {
        for container in &pod.containers {
            let labels = || labels(pod, Some(&container.name));
            let taken =
                |nanoseconds: i64| Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(figures.at);
            if let Some(found) = &container.stats.cpu
                && let Some(used) = &found.usage_core_nano_seconds
            {
                cpu.push(sample(labels(), seconds(used.value), taken(found.timestamp)));
            }
            if let Some(found) = &container.stats.memory
                && let Some(used) = &found.working_set_bytes
            {
                memory.push(sample(labels(), bytes(used.value), taken(found.timestamp)));
            }
            if let Some(started) = container.started {
                start.push(sample(
                    labels(),
                    started.as_millisecond() as f64 / 1000.0,
                    figures.at,
                ));
            }
        }
    }
    write(
        text,
        "container_cpu_usage_seconds_total",
        "counter",
        "Processor time that the container has used",
        cpu,
    );
    write(
        text,
        "container_memory_working_set_bytes",
        "gauge",
        "Memory that the container uses",
        memory,
    );
    write(
        text,
        "container_start_time_seconds",
        "gauge",
        "When the container began, in seconds since 1970",
        start,
    );
}

fn write(text: &mut String, name: &str, kind: &str, help: &str, samples: Vec<Sample>) {
    if samples.is_empty() {
        return;
    }
    // A String takes everything that is written to it.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for Sample { labels, value, at } in samples {
        let _ = writeln!(text, "{name}{labels} {value} {}", at.as_millisecond());
    }
}

fn sample(labels: String, value: f64, at: Timestamp) -> Sample {
    Sample { labels, value, at }
}

/// Names of objects need no escaping.
fn labels(pod: &PodFigures, container: Option<&str>) -> String {
    let container = container
        .map(|name| format!("container=\"{name}\","))
        .unwrap_or_default();
    let (namespace, name) = (&pod.key.namespace, &pod.key.name);
    format!("{{{container}namespace=\"{namespace}\",pod=\"{name}\"}}")
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn bytes(bytes: u64) -> f64 {
    bytes as f64
}
