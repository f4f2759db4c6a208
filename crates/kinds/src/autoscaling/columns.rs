//! How `kubectl get` shows an autoscaler.

use serde_json::Value;

use crate::autoscaling::metrics;
use crate::columns::{self, column};
use crate::json::{at, int, list, text};
use crate::kind::Column;

pub(crate) const COLUMNS: &[Column] = &[
    columns::NAME,
    column("Reference", "string", "What is scaled."),
    column(
        "Targets",
        "string",
        "What is measured: what it is now, and what it should be.",
    ),
    column("MinPods", "string", "The fewest pods."),
    column("MaxPods", "string", "The most pods."),
    column("Replicas", "string", "How many pods there are."),
    columns::AGE,
];

/// The cells, of an object of the version that is kept.
pub(crate) fn row(autoscaler: &Value, now: i64) -> Vec<Value> {
    let reference = format!(
        "{}/{}",
        text(autoscaler, "/spec/scaleTargetRef/kind"),
        text(autoscaler, "/spec/scaleTargetRef/name")
    );
    let least = int(autoscaler, "/spec/minReplicas");
    vec![
        columns::name(autoscaler),
        reference.into(),
        targets(autoscaler).into(),
        least
            .map_or_else(|| "<unset>".to_owned(), |count| count.to_string())
            .into(),
        int(autoscaler, "/spec/maxReplicas").unwrap_or_default().into(),
        int(autoscaler, "/status/currentReplicas")
            .unwrap_or_default()
            .into(),
        columns::age(autoscaler, now),
    ]
}

/// The first two metrics, and how many more there are.
fn targets(autoscaler: &Value) -> String {
    const SHOWN: usize = 2;
    let metrics = list(autoscaler, "/spec/metrics");
    let measured = list(autoscaler, "/status/currentMetrics");
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<_> = metrics
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(index, metric)| target(metric, measured.get(index).unwrap_or(&Value::Null)))
        .collect();
    match metrics.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} + {more} more...", shown.join(", ")),
    }
}

/// One metric, as in `cpu: 50%/80%`.
fn target(metric: &Value, measured: &Value) -> String {
    let Some(source) = metrics::source(metric) else {
        return "<unknown type>".to_owned();
    };
    let wanted = |field: &str| amount(metric, &format!("/{source}/target/{field}"));
    let current = |field: &str| {
        let found = amount(measured, &format!("/{source}/current/{field}"));
        found.unwrap_or_else(|| "<unknown>".to_owned())
    };
    match source {
        "resource" | "containerResource" => {
            let name = text(metric, &format!("/{source}/name"));
            match wanted("averageValue") {
                Some(wanted) => format!("{name}: {}/{wanted}", current("averageValue")),
                None => {
                    let now = match current("averageUtilization") {
                        unknown if unknown.starts_with('<') => unknown,
                        percent => format!("{percent}%"),
                    };
                    let wanted = wanted("averageUtilization");
                    let wanted = wanted.map_or_else(|| "<auto>".to_owned(), |percent| format!("{percent}%"));
                    format!("{name}: {now}/{wanted}")
                }
            }
        }
        "pods" => format!(
            "{}/{}",
            current("averageValue"),
            wanted("averageValue").unwrap_or_default()
        ),
        _ => match wanted("averageValue") {
            Some(wanted) => format!("{}/{wanted} (avg)", current("averageValue")),
            None => format!("{}/{}", current("value"), wanted("value").unwrap_or_default()),
        },
    }
}

fn amount(metric: &Value, pointer: &str) -> Option<String> {
    at(metric, pointer).map(|amount| match amount {
        Value::String(quantity) => quantity.clone(),
        number => number.to_string(),
    })
}
