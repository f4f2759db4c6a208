//! Columns that many kinds share, and the way kubectl prints ages.

use serde_json::Value;

use crate::json::{list, text};
use crate::kind::Column;

/// A column that `kubectl get` always shows.
pub(crate) const fn column(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
) -> Column<'static> {
    Column {
        name,
        kind,
        format: "",
        priority: 0,
        description,
    }
}

/// A column of `kubectl get -o wide`.
pub(crate) const fn wide(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
) -> Column<'static> {
    Column {
        name,
        kind,
        format: "",
        priority: 1,
        description,
    }
}

/// The object's name.
pub(crate) const NAME: Column<'static> = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
    description: "Name must be unique within a namespace.",
};

/// The object's age.
pub(crate) const AGE: Column<'static> = column("Age", "string", "Time since the object was created.");

/// The object's name.
pub(crate) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

/// The object's age as kubectl prints it.
pub(crate) fn age(object: &Value, now: i64) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now).into()
}

/// Time since an RFC 3339 timestamp as kubectl prints it; `<unknown>` without one.
pub(crate) fn since(timestamp: &str, now: i64) -> String {
    match seconds(timestamp) {
        Some(then) => human_duration(now - then),
        None => "<unknown>".to_owned(),
    }
}

/// An RFC 3339 timestamp in seconds since the epoch.
pub(crate) fn seconds(timestamp: &str) -> Option<i64> {
    timestamp
        .parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_second)
}

/// A text, or kubectl's `<none>` in place of an empty one.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

/// Names and images of a pod template's containers, for wide rows of workloads.
pub(crate) fn containers(template: &Value) -> (Value, Value) {
    let join = |field: &str| -> Value {
        let texts: Vec<_> = list(template, "/spec/containers")
            .iter()
            .map(|c| text(c, field))
            .collect();
        texts.join(",").into()
    };
    (join("/name"), join("/image"))
}

/// The first three of many texts, and how many more there are; another text in place of none.
pub(crate) fn first_few(texts: impl Iterator<Item = String>, none: &str) -> String {
    const SHOWN: usize = 3;
    let all: Vec<_> = texts.collect();
    match all.len() {
        count if count > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN),
        _ => match all.join(",") {
            text if text.is_empty() => none.to_owned(),
            text => text,
        },
    }
}

/// The object's name, and that it is the one that is taken when none is asked for, if an annotation says so.
pub(crate) fn default_name(object: &Value, annotation: &str) -> Value {
    let name = text(object, "/metadata/name");
    if object["metadata"]["annotations"][annotation] == "true" {
        format!("{name} (default)").into()
    } else {
        name.into()
    }
}

/// The addresses, or else host names, that a load balancer has given an object, each once.
pub(crate) fn load_balancer(object: &Value) -> String {
    let ingress = list(object, "/status/loadBalancer/ingress").iter();
    let mut addresses: Vec<_> = ingress
        .map(|entry| match text(entry, "/ip") {
            "" => text(entry, "/hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

/// Rows of kinds that have nothing to show but name and age.
pub(crate) fn name_and_age(object: &Value, now: i64) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

/// A duration with two or three significant digits, by the rules of Kubernetes' `duration.HumanDuration`:
/// `<invalid>` for times to come, seconds up to two minutes, minutes and seconds up to ten minutes, and so
/// on to years.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, large_unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        // A clock that is a second off isn't worth an alarming word.
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, 'm', seconds % MINUTE, 's'),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, 'h', seconds / MINUTE % 60, 'm'),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, 'd', seconds / HOUR % 24, 'h'),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, 'y', seconds / DAY % 365, 'd'),
        _ => format!("{}y", seconds / YEAR),
    }
}
