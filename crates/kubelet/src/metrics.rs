//! A few numbers in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that go up, and what is true now.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) pods: AtomicU64,
    pub(crate) containers: AtomicU64,
    pub(crate) sandboxes_started: AtomicU64,
    pub(crate) sandbox_failures: AtomicU64,
    pub(crate) containers_started: AtomicU64,
    pub(crate) container_failures: AtomicU64,
    pub(crate) status_patches: AtomicU64,
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    pub(crate) fn text(&self) -> String {
        let all = [
            (
                "kubelet_running_pods",
                "gauge",
                "Pods with a running sandbox",
                &self.pods,
            ),
            (
                "kubelet_running_containers",
                "gauge",
                "Containers that run",
                &self.containers,
            ),
            (
                "kubelet_started_pods_total",
                "counter",
                "Sandboxes made",
                &self.sandboxes_started,
            ),
            (
                "kubelet_started_pods_errors_total",
                "counter",
                "Sandboxes that could not be made",
                &self.sandbox_failures,
            ),
            (
                "kubelet_started_containers_total",
                "counter",
                "Containers started",
                &self.containers_started,
            ),
            (
                "kubelet_started_containers_errors_total",
                "counter",
                "Containers that could not be started",
                &self.container_failures,
            ),
            (
                "ripstop_kubelet_status_patches_total",
                "counter",
                "Pod status changes written",
                &self.status_patches,
            ),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in all {
            let value = value.load(Ordering::Relaxed);
            // A String takes everything that is written to it.
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        }
        if let Some(bytes) = resident_bytes() {
            let name = "process_resident_memory_bytes";
            let _ = write!(
                text,
                "# HELP {name} Resident memory\n# TYPE {name} gauge\n{name} {bytes}\n"
            );
        }
        text
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_text() {
        let metrics = Metrics::default();
        count(&metrics.containers_started);
        let text = metrics.text();
        assert!(text.contains("\nkubelet_started_containers_total 1\n"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }
}
