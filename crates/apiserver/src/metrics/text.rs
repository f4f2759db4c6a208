//! The numbers as text.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;

use super::{About, BOUNDS, Durations, Metrics, Series};
use crate::reply::{self, Response};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::{about, object};

/// `/metrics`.
pub(crate) async fn answer(server: Arc<ApiServer>) -> Result<Response, Failure> {
    // Counting objects reads the file.
    let text = tokio::task::spawn_blocking(move || {
        let mut text = requests(&server.metrics);
        stored(&server, &mut text)?;
        process(&mut text);
        Ok::<_, Failure>(text)
    });
    let text = text.await.map_err(Failure::internal)??;
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(reply::bytes(StatusCode::OK, content_type, text))
}

fn requests(metrics: &Metrics) -> String {
    let mut text = String::new();
    let all = metrics.lock();
    counts(&mut text, all.iter());
    durations(&mut text, all.iter());
    family(
        &mut text,
        "apiserver_longrunning_requests",
        "gauge",
        "Watches, logs, streams and proxied requests that go on",
    );
    for (about, series) in all.iter().filter(|(about, _)| about.is_long()) {
        sample(
            &mut text,
            "apiserver_longrunning_requests",
            &labels(about, false),
            series.long,
        );
    }
    drop(all);
    let name = "apiserver_current_inflight_requests";
    family(&mut text, name, "gauge", "Other requests that are being answered");
    for (kind, running) in [("mutating", &metrics.writing), ("readOnly", &metrics.reading)] {
        let labels = format!("request_kind=\"{kind}\"");
        sample(&mut text, name, &labels, running.load(Ordering::Relaxed));
    }
    let name = "apiserver_tls_handshake_errors_total";
    family(
        &mut text,
        name,
        "counter",
        "Connections that ended before their TLS began",
    );
    sample(
        &mut text,
        name,
        "",
        metrics.failed_handshakes.load(Ordering::Relaxed),
    );
    text
}

fn counts<'a>(text: &mut String, all: impl Iterator<Item = (&'a About, &'a Series)>) {
    let name = "apiserver_request_total";
    family(text, name, "counter", "Requests that were answered");
    for (about, series) in all {
        for (code, count) in &series.codes {
            let labels = format!("{},code=\"{code}\"", labels(about, true));
            sample(text, name, &labels, count);
        }
    }
}

fn durations<'a>(text: &mut String, all: impl Iterator<Item = (&'a About, &'a Series)>) {
    let name = "apiserver_request_duration_seconds";
    family(
        text,
        name,
        "histogram",
        "How long it took to answer, waiting for a turn included; not of what goes on, as watches do",
    );
    for (about, Series { durations, .. }) in all.filter(|(about, _)| !about.is_long()) {
        histogram(text, name, &labels(about, true), durations);
    }
}

fn histogram(text: &mut String, name: &str, labels: &str, durations: &Durations) {
    let mut so_far = 0;
    let bucket = format!("{name}_bucket");
    for (bound, within) in BOUNDS.iter().zip(durations.within) {
        so_far += within;
        sample(text, &bucket, &format!("{labels},le=\"{bound}\""), so_far);
    }
    sample(text, &bucket, &format!("{labels},le=\"+Inf\""), durations.count);
    sample(text, &format!("{name}_sum"), labels, durations.seconds);
    sample(text, &format!("{name}_count"), labels, durations.count);
}

/// Paths and names of kinds need no escaping.
fn labels(about: &About, with_dry_run: bool) -> String {
    let About {
        verb,
        group,
        version,
        resource,
        subresource,
        scope,
        ..
    } = about;
    let dry_run = match (with_dry_run, about.dry_run) {
        (false, _) => "",
        (true, false) => "dry_run=\"\",",
        (true, true) => "dry_run=\"All\",",
    };
    format!(
        "verb=\"{verb}\",{dry_run}group=\"{group}\",version=\"{version}\",resource=\"{resource}\",\
         subresource=\"{subresource}\",scope=\"{scope}\",component=\"apiserver\""
    )
}

/// What is in the store.
fn stored(server: &ApiServer, text: &mut String) -> Result<(), Failure> {
    let custom = server.definitions.kinds(&server.store)?;
    let mut seen = BTreeSet::new();
    let name = "apiserver_resource_objects";
    family(text, name, "gauge", "Objects that are stored");
    for kind in kinds::all().iter().chain(custom.iter()) {
        let prefix = object::prefix(kind, None);
        // Several versions of a kind are kept as one.
        if !seen.insert(prefix.clone()) {
            continue;
        }
        let range = store::Range {
            prefix: &prefix,
            limit: 1,
            ..store::Range::default()
        };
        let page = server.store.list(&range, |_| true)?;
        let labels = format!("group=\"{}\",resource=\"{}\"", kind.kept_group(), kind.plural());
        sample(text, name, &labels, page.entries.len() + page.remaining);
    }
    let name = "apiserver_storage_size_bytes";
    family(text, name, "gauge", "Size of the store's file");
    let size = std::fs::metadata(&server.path).map_err(Failure::internal)?.len();
    sample(text, name, "", size);
    let name = "ripstop_storage_revision";
    family(
        text,
        name,
        "counter",
        "Changes of objects since the cluster began: the newest resource version",
    );
    sample(text, name, "", server.store.revision());
    Ok(())
}

fn process(text: &mut String) {
    let version = about::version();
    let field = |name: &str| version[name].as_str().unwrap_or_default().to_owned();
    let name = "kubernetes_build_info";
    family(text, name, "gauge", "1, labelled with what is served");
    let labels = ["major", "minor", "gitVersion", "platform"]
        .map(|name| format!("{}=\"{}\"", snake_case(name), field(name)))
        .join(",");
    sample(text, name, &labels, 1);
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        family(text, name, "gauge", "Resident memory");
        sample(text, name, "", bytes);
    }
}

fn snake_case(name: &str) -> &str {
    if name == "gitVersion" { "git_version" } else { name }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // A String takes everything that is written to it.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}
