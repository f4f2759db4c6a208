//! What Kubernetes' default admission plugins add to a new pod: its priority, what its RuntimeClass says, and
//! for how long it stays on a node that is lost.

mod runtime_class;

use kinds::Kind;
use serde_json::{Value, json};

use crate::call::Call;
use crate::create;
use crate::error::Error;
use crate::object::{self, child, list, text};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};

/// How long pods that say nothing about it stay on a node that is lost (the plugin DefaultTolerationSeconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossToleration {
    /// In seconds, on one that says that it isn't ready.
    pub not_ready: i64,
    /// In seconds, on one of which nothing is heard.
    pub unreachable: i64,
}

impl Default for LossToleration {
    fn default() -> Self {
        Self {
            not_ready: 300,
            unreachable: 300,
        }
    }
}

/// The classes that every cluster has, and what they are for.
const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "For pods that the cluster can't do without, on whichever node they are.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "For pods that their node can't do without.",
    ),
];

/// Completes a new pod, with its defaults set.
pub(crate) fn admit(server: &ApiServer, pod: &mut Value) -> Result<(), Failure> {
    let classes = || all(server);
    let runtime_class = |name: &str| {
        let of = kinds::find("node.k8s.io", "v1", "runtimeclasses").expect("the table has RuntimeClass");
        let entry = server.store.get(&object::key(of, None, name))?;
        entry.map(|entry| object::parse(&entry.value)).transpose()
    };
    let admitted = prioritise(classes, pod).and_then(|()| runtime_class::admit(runtime_class, pod));
    admitted.map_err(|why| match why {
        Refusal::Forbidden(why) => {
            Failure::forbidden(Subject::of(server.pods(), text(pod, "/metadata/name")), &why)
        }
        Refusal::Failed(failure) => failure,
    })?;
    tolerate_loss(server.loss_toleration, pod);
    Ok(())
}

/// Completes a pod that is changed: what says for how long it stays on a lost node can't be taken from it.
pub(crate) fn admit_change(server: &ApiServer, pod: &mut Value) {
    tolerate_loss(server.loss_toleration, pod);
}

/// Checks an object that is created or changed: of PriorityClasses, one may be that of pods that name none.
pub(crate) fn check(server: &ApiServer, of: &Kind, object: &Value) -> Result<(), Failure> {
    if !of.is("scheduling.k8s.io", "priorityclasses") || object["globalDefault"] != true {
        return Ok(());
    }
    let name = text(object, "/metadata/name");
    let classes = all(server)?;
    let mut others = classes
        .iter()
        .filter(|class| text(class, "/metadata/name") != name);
    match others.find(|class| class["globalDefault"] == true) {
        None => Ok(()),
        Some(other) => {
            let other = text(other, "/metadata/name");
            let why =
                format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(Failure::forbidden(Subject::of(of, name), &why))
        }
    }
}

/// Makes the classes that every cluster has.
pub(crate) async fn keep_classes(server: &ApiServer) -> Result<(), Error> {
    for (name, value, description) in SYSTEM {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": { "name": name }, "value": value, "description": description,
        });
        match create::create(server, &Call::of_server(kind(), None), class).await {
            Ok(_) => {}
            Err(failure) if failure.reason == "AlreadyExists" => {}
            Err(failure) => return Err(Error::PriorityClass(name, failure.message)),
        }
    }
    Ok(())
}

fn kind() -> &'static Kind {
    kinds::find("scheduling.k8s.io", "v1", "priorityclasses").expect("the table has PriorityClass")
}

/// All PriorityClasses.
fn all(server: &ApiServer) -> Result<Vec<Value>, Failure> {
    let range = store::Range {
        prefix: &object::prefix(kind(), None),
        ..store::Range::default()
    };
    let entries = server.store.list(&range, |_| true)?.entries;
    entries.iter().map(|entry| object::parse(&entry.value)).collect()
}

enum Refusal {
    Forbidden(String),
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal::Failed(failure)
    }
}

/// The Priority plugin: a class's value becomes the pod's priority.
fn prioritise(classes: impl Fn() -> Result<Vec<Value>, Failure>, pod: &mut Value) -> Result<(), Refusal> {
    let mut name = text(pod, "/spec/priorityClassName").to_owned();
    let classes = classes()?;
    let found = match name.is_empty() {
        true => default_class(&classes),
        false => {
            let found = classes.iter().find(|class| text(class, "/metadata/name") == name);
            let missing = || Refusal::Forbidden(format!("no PriorityClass with name {name} was found"));
            Some(found.ok_or_else(missing)?)
        }
    };
    let priority = found.and_then(|class| class["value"].as_i64()).unwrap_or(0);
    let policy = found
        .map(|class| text(class, "/preemptionPolicy"))
        .filter(|policy| !policy.is_empty())
        .unwrap_or("PreemptLowerPriority");
    name = found.map_or(name, |class| text(class, "/metadata/name").to_owned());
    let spec = child(pod, "spec");
    let given = |field: &str, what: &str, given: String, computed: String| {
        Err(Refusal::Forbidden(format!(
            "the {what} value of {field} ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
        )))
    };
    match spec.get("priority").and_then(Value::as_i64) {
        Some(own) if own != priority => {
            return given("priority", "integer", own.to_string(), priority.to_string());
        }
        _ => spec.insert("priority".into(), priority.into()),
    };
    match spec.get("preemptionPolicy").and_then(Value::as_str) {
        Some(own) if own != policy => {
            return given("PreemptionPolicy", "string", own.to_owned(), policy.to_owned());
        }
        _ => spec.insert("preemptionPolicy".into(), policy.into()),
    };
    if !name.is_empty() {
        spec.insert("priorityClassName".into(), name.into());
    }
    Ok(())
}

/// The class of pods that name none. Should two have become it at the same moment, the lower counts.
fn default_class(classes: &[Value]) -> Option<&Value> {
    let defaults = classes.iter().filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64())
}

/// The DefaultTolerationSeconds plugin: a pod stays for a while on a node that is lost, unless it tolerates
/// that in its own way.
fn tolerate_loss(seconds: LossToleration, pod: &mut Value) {
    for (key, seconds) in [
        ("node.kubernetes.io/not-ready", seconds.not_ready),
        ("node.kubernetes.io/unreachable", seconds.unreachable),
    ] {
        let tolerated = list(pod, "/spec/tolerations").iter().any(|toleration| {
            matches!(text(toleration, "/effect"), "" | "NoExecute")
                && matches!(text(toleration, "/key"), own if own.is_empty() || own == key)
        });
        if tolerated {
            continue;
        }
        let own =
            json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds });
        match child(pod, "spec")
            .get_mut("tolerations")
            .and_then(Value::as_array_mut)
        {
            Some(tolerations) => tolerations.push(own),
            None => pod["spec"]["tolerations"] = json!([own]),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn classes() -> Vec<Value> {
        vec![
            json!({ "metadata": { "name": "high" }, "value": 1000, "preemptionPolicy": "Never" }),
            json!({ "metadata": { "name": "usual" }, "value": 5, "globalDefault": true }),
        ]
    }

    fn prioritised(classes: Vec<Value>, spec: Value) -> Result<Value, String> {
        let mut pod = json!({ "spec": spec });
        match prioritise(|| Ok(classes.clone()), &mut pod) {
            Ok(()) => Ok(pod["spec"].take()),
            Err(Refusal::Forbidden(why)) => Err(why),
            Err(Refusal::Failed(failure)) => panic!("{failure:?}"),
        }
    }

    #[rstest]
    #[case::by_class(classes(), json!({ "priorityClassName": "high" }), json!(["high", 1000, "Never"]))]
    #[case::by_default(classes(), json!({}), json!(["usual", 5, "PreemptLowerPriority"]))]
    #[case::without_classes(vec![], json!({}), json!([null, 0, "PreemptLowerPriority"]))]
    fn a_class_gives_the_priority(#[case] classes: Vec<Value>, #[case] spec: Value, #[case] expected: Value) {
        let spec = prioritised(classes, spec).unwrap();
        let found = [
            &spec["priorityClassName"],
            &spec["priority"],
            &spec["preemptionPolicy"],
        ];
        assert_eq!(json!(found), expected);
    }

    #[test]
    fn a_priority_that_its_class_does_not_give_is_refused() {
        let why = prioritised(classes(), json!({ "priorityClassName": "absent" })).unwrap_err();
        assert_eq!(why, "no PriorityClass with name absent was found");
        let why = prioritised(classes(), json!({ "priorityClassName": "high", "priority": 7 })).unwrap_err();
        assert!(
            why.starts_with("the integer value of priority (7) must not be provided"),
            "{why}"
        );
        let own = json!({ "priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority" });
        let why = prioritised(classes(), own).unwrap_err();
        assert!(
            why.contains("computed Never from the given PriorityClass name"),
            "{why}"
        );
    }

    #[rstest]
    #[case::none(json!(null), &["node.kubernetes.io/not-ready 7", "node.kubernetes.io/unreachable 9"])]
    #[case::its_own(json!([{ "key": "node.kubernetes.io/not-ready", "operator": "Exists" }]),
        &["node.kubernetes.io/not-ready null", "node.kubernetes.io/unreachable 9"])]
    #[case::everything(json!([{ "operator": "Exists" }]), &[" null"])]
    #[case::another_effect(
        json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoSchedule" }]),
        &["node.kubernetes.io/unreachable null", "node.kubernetes.io/not-ready 7",
          "node.kubernetes.io/unreachable 9"])]
    fn a_pod_stays_for_a_while_unless_it_says_how_long(#[case] own: Value, #[case] expected: &[&str]) {
        let mut pod = json!({ "spec": { "tolerations": own } });
        let seconds = LossToleration {
            not_ready: 7,
            unreachable: 9,
        };
        tolerate_loss(seconds, &mut pod);
        let tolerations = list(&pod, "/spec/tolerations").iter();
        let texts: Vec<_> = tolerations
            .map(|own| format!("{} {}", text(own, "/key"), own["tolerationSeconds"]))
            .collect();
        assert_eq!(texts, expected);
    }
}
