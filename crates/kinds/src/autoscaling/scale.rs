//! How `kubectl get --subresource=scale` shows a Scale: a kind that isn't kept.

use serde_json::Value;

use crate::columns::{self, column};
use crate::json::int;
use crate::kind::Column;

/// The columns of a Scale.
pub const SCALE_COLUMNS: &[Column] = &[
    columns::NAME,
    column("Desired", "integer", "How many replicas are wanted."),
    column("Available", "integer", "How many replicas there are."),
    columns::AGE,
];

/// The cells of one Scale; `now` in seconds since the epoch.
pub fn scale_row(scale: &Value, now: i64) -> Vec<Value> {
    let count = |pointer| int(scale, pointer).unwrap_or_default().into();
    vec![
        columns::name(scale),
        count("/spec/replicas"),
        count("/status/replicas"),
        columns::age(scale, now),
    ]
}
