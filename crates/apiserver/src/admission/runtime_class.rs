//! The RuntimeClass plugin: a pod's class has to be there, and adds what its pods cost and where they can run
//! (KEP-585, KEP-688).

use quantity::Quantity;
use serde_json::{Map, Value};

use super::Refusal;
use crate::object::{child, list, text};
use crate::status::Failure;

/// Completes a new pod from its class, which `class` finds by name.
pub(super) fn admit(
    class: impl FnOnce(&str) -> Result<Option<Value>, Failure>,
    pod: &mut Value,
) -> Result<(), Refusal> {
    let name = text(pod, "/spec/runtimeClassName");
    let found = match name {
        "" => Value::Null,
        name => class(name)?.ok_or_else(|| refused(&format!("RuntimeClass \"{name}\" not found")))?,
    };
    add_overhead(&found, pod)?;
    add_node_selector(&found, pod)?;
    add_tolerations(&found, pod);
    Ok(())
}

fn refused(why: &str) -> Refusal {
    Refusal::Forbidden(format!("pod rejected: {why}"))
}

/// What a pod of the class takes beside its containers. Who gives it has to give the class's own.
fn add_overhead(class: &Value, pod: &mut Value) -> Result<(), Refusal> {
    let defined = &class["overhead"]["podFixed"];
    let own = &pod["spec"]["overhead"];
    match (defined.as_object(), own.as_object()) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(refused(
            "Pod Overhead set without corresponding RuntimeClass defined Overhead",
        )),
        (Some(defined), Some(own)) if !is_same(defined, own) => Err(refused(
            "Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        )),
        (Some(_), _) => {
            pod["spec"]["overhead"] = defined.clone();
            Ok(())
        }
    }
}

/// Whether two lists of amounts say the same, each in its own units.
fn is_same(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let amount =
        |amounts: &Map<String, Value>, name: &String| Quantity::parse(amounts.get(name)?.as_str()?).ok();
    one.len() == other.len() && one.keys().all(|name| amount(one, name) == amount(other, name))
}

/// The nodes that can run it: the pod's own choice among them.
fn add_node_selector(class: &Value, pod: &mut Value) -> Result<(), Refusal> {
    let Some(wanted) = class["scheduling"]["nodeSelector"].as_object() else {
        return Ok(());
    };
    let spec = &mut pod["spec"];
    let selector = child(spec, "nodeSelector");
    for (key, value) in wanted {
        match selector.get(key) {
            Some(own) if own != value => {
                return Err(refused(&format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    value.as_str().unwrap_or_default(),
                    own.as_str().unwrap_or_default(),
                )));
            }
            _ => selector.insert(key.clone(), value.clone()),
        };
    }
    Ok(())
}

/// What keeps others away from those nodes doesn't keep it away.
fn add_tolerations(class: &Value, pod: &mut Value) {
    let added = list(class, "/scheduling/tolerations");
    if added.is_empty() {
        return;
    }
    let mut all = list(pod, "/spec/tolerations").to_vec();
    for toleration in added {
        if !all.contains(toleration) {
            all.push(toleration.clone());
        }
    }
    pod["spec"]["tolerations"] = all.into();
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn admitted(spec: Value) -> Result<Value, String> {
        let class = |name: &str| {
            let class = json!({
                "handler": "kata", "overhead": { "podFixed": { "cpu": "250m", "memory": "120Mi" } },
                "scheduling": {
                    "nodeSelector": { "kata": "yes" },
                    "tolerations": [{ "key": "kata", "operator": "Exists" }],
                },
            });
            let bare = json!({ "handler": "runc" });
            let found = match name {
                "kata" => Some(class),
                "bare" => Some(bare),
                _ => None,
            };
            Ok(found)
        };
        let mut pod = json!({ "spec": spec });
        match admit(class, &mut pod) {
            Ok(()) => Ok(pod["spec"].take()),
            Err(Refusal::Forbidden(why)) => Err(why),
            Err(Refusal::Failed(failure)) => panic!("{failure:?}"),
        }
    }

    #[test]
    fn a_class_adds_what_its_pods_cost_and_where_they_run() {
        let own = json!({ "runtimeClassName": "kata", "nodeSelector": { "disk": "ssd" },
            "overhead": { "cpu": "0.25", "memory": "120Mi" },
            "tolerations": [{ "key": "other", "operator": "Exists" }] });
        let expected = json!({ "runtimeClassName": "kata", "nodeSelector": { "disk": "ssd", "kata": "yes" },
            "overhead": { "cpu": "250m", "memory": "120Mi" },
            "tolerations": [{ "key": "other", "operator": "Exists" }, { "key": "kata", "operator": "Exists" }] });
        assert_eq!(admitted(own), Ok(expected));
        let least = admitted(json!({ "runtimeClassName": "kata" })).unwrap();
        assert_eq!(least["overhead"], json!({ "cpu": "250m", "memory": "120Mi" }));
        assert_eq!(least["nodeSelector"], json!({ "kata": "yes" }));
    }

    #[rstest]
    #[case::none(json!({}))]
    #[case::bare(json!({ "runtimeClassName": "bare", "nodeSelector": { "a": "b" } }))]
    fn a_class_that_adds_nothing_leaves_the_pod_as_it_is(#[case] spec: Value) {
        assert_eq!(admitted(spec.clone()), Ok(spec));
    }

    #[rstest]
    #[case::absent(json!({ "runtimeClassName": "gone" }), "RuntimeClass \"gone\" not found")]
    #[case::overhead_of_nothing(json!({ "overhead": { "cpu": "1" } }), "Pod Overhead set without")]
    #[case::overhead_of_bare(json!({ "runtimeClassName": "bare", "overhead": { "cpu": "1" } }),
        "Pod Overhead set without")]
    #[case::another_overhead(json!({ "runtimeClassName": "kata", "overhead": { "cpu": "250m" } }),
        "Pod's Overhead doesn't match")]
    #[case::another_node(json!({ "runtimeClassName": "kata", "nodeSelector": { "kata": "no" } }),
        "conflict: runtimeClass.scheduling.nodeSelector[kata] = yes; pod.spec.nodeSelector[kata] = no")]
    fn what_does_not_fit_its_class_is_refused(#[case] spec: Value, #[case] why: &str) {
        let refusal = admitted(spec).unwrap_err();
        assert!(refusal.starts_with(&format!("pod rejected: {why}")), "{refusal}");
    }
}
