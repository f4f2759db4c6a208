//! Label selectors as text, the way kubectl prints them.

use serde_json::Value;

use crate::json::{entries, list, text};

/// A map of labels, as in `app=web,tier=front`; `<none>` for none.
pub(crate) fn format_map(value: &Value, pointer: &str) -> String {
    let mut pairs: Vec<_> = entries(value, pointer)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

/// A label selector (`matchLabels`, `matchExpressions`), as in `app=web,tier in (back,front),!old`.
pub(crate) fn format_selector(selector: &Value) -> String {
    // Sorted by key, as requirements are everywhere in Kubernetes.
    let mut parts: Vec<(&str, String)> = entries(selector, "/matchLabels")
        .map(|(key, value)| {
            (
                key.as_str(),
                format!("{key}={}", value.as_str().unwrap_or_default()),
            )
        })
        .collect();
    for requirement in list(selector, "/matchExpressions") {
        let key = text(requirement, "/key");
        let mut values: Vec<_> = list(requirement, "/values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        parts.push((
            key,
            match text(requirement, "/operator") {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "Exists" => key.to_owned(),
                "DoesNotExist" => format!("!{key}"),
                _ => "<invalid>".to_owned(),
            },
        ));
    }
    parts.sort_by(|a, b| a.0.cmp(b.0));
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    parts
        .into_iter()
        .map(|(_, part)| part)
        .collect::<Vec<_>>()
        .join(",")
}

/// Whether labels fit a label selector. An empty selector fits everything, as in Kubernetes.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let equal = entries(selector, "/matchLabels")
        .all(|(key, value)| label(key).is_some() && label(key) == value.as_str());
    equal
        && list(selector, "/matchExpressions").iter().all(|requirement| {
            let found = label(text(requirement, "/key"));
            let listed = list(requirement, "/values")
                .iter()
                .any(|value| found.is_some() && value.as_str() == found);
            match text(requirement, "/operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_print_as_kubectl_does() {
        let selector = json!({
            "matchLabels": {"app": "web", "z": "1"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "here", "operator": "Exists"},
                {"key": "env", "operator": "NotIn", "values": ["test"]},
            ],
        });
        assert_eq!(
            format_selector(&selector),
            "app=web,env notin (test),here,!old,tier in (back,front),z=1"
        );
        assert_eq!(format_selector(&json!({})), "<none>");
        assert_eq!(format_map(&json!({"a": {"x": "1", "b": "2"}}), "/a"), "b=2,x=1");
    }

    #[test]
    fn labels_fit_a_selector_when_every_requirement_does() {
        let labels = json!({"app": "web", "tier": "front"});
        let fits = |selector| selects(&selector, &labels);
        assert!(fits(json!({})));
        assert!(fits(json!({"matchLabels": {"app": "web"}})));
        assert!(!fits(json!({"matchLabels": {"app": "web", "x": ""}})));
        assert!(fits(
            json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]})
        ));
        assert!(fits(
            json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["front"]}]})
        ));
        assert!(!fits(
            json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]})
        ));
        assert!(!fits(
            json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]})
        ));
    }
}
