//! Deleting objects: at once, after a grace period, or when their finalizers are done.

use bytes::Bytes;
use kinds::Kind;
use serde_json::{Value, json};

use crate::definitions;
use crate::object::{self, list, text};
use crate::path::Query;
use crate::server::ApiServer;
use crate::services;
use crate::status::{Failure, Subject};
use crate::update::{self, next_generation};

/// The garbage collector's finalizers.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// How often a deletion is tried again when others interfere.
const TRIES: usize = 32;

/// What becomes of the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Foreground,
    Background,
}

/// A deletion's options, from its body or query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) grace: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl Options {
    /// From a `DeleteOptions` object; null means no options.
    pub(crate) fn from_body(body: &Value) -> Result<Options, Failure> {
        let optional = |pointer| {
            let text = text(body, pointer);
            (!text.is_empty()).then(|| text.to_owned())
        };
        let grace = match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => None,
            Some(seconds) => Some(seconds.as_i64().ok_or_else(|| {
                Failure::bad_request("gracePeriodSeconds in the DeleteOptions must be an integer")
            })?),
        };
        let policy = optional("/propagationPolicy");
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        Ok(Options {
            grace,
            propagation: propagation(policy.as_deref(), orphan)?,
            uid: optional("/preconditions/uid"),
            resource_version: optional("/preconditions/resourceVersion"),
            dry_run: !list(body, "/dryRun").is_empty(),
        })
    }

    /// What the body leaves open may stand in the query.
    pub(crate) fn or_query(mut self, query: &Query) -> Result<Options, Failure> {
        if self.grace.is_none() {
            self.grace = query.number("gracePeriodSeconds")?;
        }
        if self.propagation.is_none() {
            let orphan = query.get("orphanDependents").map(|value| value == "true");
            self.propagation = propagation(query.get("propagationPolicy"), orphan)?;
        }
        self.dry_run |= crate::input::dry_run(query, "DeleteOptions")?;
        Ok(self)
    }
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Failure> {
    match (policy, orphan) {
        (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some("Background"), None) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Failure::invalid_option(
            "DeleteOptions",
            "propagationPolicy",
            kinds::Reason::Invalid,
            "Invalid value: orphanDependents and deletionPropagation cannot be both set".into(),
        )),
        (Some(other), None) => Err(Failure::invalid_option(
            "DeleteOptions",
            "propagationPolicy",
            kinds::Reason::NotSupported,
            format!(
                "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
            ),
        )),
    }
}

/// What came of a deletion.
pub(crate) enum Outcome {
    /// The object is gone; this was its last state.
    Gone(Bytes),
    /// The object is marked, and goes when its grace period or its finalizers are over.
    Marked(Bytes),
}

impl Outcome {
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Outcome::Gone(bytes) | Outcome::Marked(bytes) => bytes,
        }
    }
}

/// Deletes one object.
pub(crate) async fn delete(
    server: &ApiServer,
    kind: &Kind,
    namespace: Option<&str>,
    name: &str,
    options: &Options,
) -> Result<Outcome, Failure> {
    let subject = Subject::of(kind, name);
    let key = object::key(kind, namespace, name);
    let _turn = definitions::turn(server, kind).await;
    for _ in 0..TRIES {
        let entry = server.store.get(&key)?;
        let entry = entry.ok_or_else(|| Failure::not_found(subject))?;
        let current = object::read(kind, &entry.value)?;
        check_preconditions(subject, &current, options)?;
        let (value, gone) = match plan(kind, &current, options, jiff::Timestamp::now()) {
            Plan::Keep => return Ok(Outcome::Marked(entry.value)),
            Plan::Mark(object) => (object, false),
            Plan::Remove(object) => (object, true),
        };
        if options.dry_run {
            let bytes = object::unstored(kind, value);
            return Ok(if gone {
                Outcome::Gone(bytes)
            } else {
                Outcome::Marked(bytes)
            });
        }
        let mut writes = vec![update::write(kind, key.clone(), value, entry.revision, gone)];
        if gone {
            writes.extend(services::release(server, kind, &current)?);
        }
        let written = server.store.write(writes).await;
        match written.map(|entries| entries[0].value.clone()) {
            Ok(value) if gone => return Ok(Outcome::Gone(value)),
            Ok(value) => return Ok(Outcome::Marked(value)),
            Err(store::Error::Conflict { .. } | store::Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::modified(subject))
}

/// Whether it is the object that is meant, as it was seen.
pub(crate) fn check_preconditions(
    subject: Subject<'_>,
    current: &Value,
    options: &Options,
) -> Result<(), Failure> {
    let found = text(current, "/metadata/uid");
    if let Some(uid) = &options.uid
        && uid != found
    {
        return Err(uid_conflict(subject, uid, found));
    }
    let found = text(current, "/metadata/resourceVersion");
    match &options.resource_version {
        Some(version) if version != found => {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {found}"
            );
            Err(Failure::conflict(subject, &why))
        }
        _ => Ok(()),
    }
}

pub(crate) fn uid_conflict(subject: Subject<'_>, wanted: &str, found: &str) -> Failure {
    let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
    Failure::conflict(subject, &why)
}

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
enum Plan {
    /// It is on its way already, and nothing changes.
    Keep,
    /// It gets a deletion timestamp, or another one, or other finalizers.
    Mark(Value),
    Remove(Value),
}

fn plan(kind: &Kind, current: &Value, options: &Options, now: jiff::Timestamp) -> Plan {
    let mut object = current.clone();
    definitions::hold(kind, &mut object);
    set_propagation(&mut object, options.propagation);
    let grace = grace(kind, current, options.grace);
    if grace == 0 && !is_held(kind, &object) {
        return Plan::Remove(object);
    }
    let first = text(current, "/metadata/deletionTimestamp").is_empty();
    let left = current
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    // A running grace period may get shorter, never longer.
    if first || grace < left {
        // Longer than time goes is for ever.
        let time = now.checked_add(jiff::SignedDuration::from_secs(grace));
        let time = object::time_text(time.unwrap_or(jiff::Timestamp::MAX));
        let metadata = object::metadata(&mut object);
        metadata.insert("deletionTimestamp".into(), time.into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
        if first && kind.generation() != kinds::Generation::None {
            next_generation(&mut object);
        }
    }
    if is_namespace(kind) {
        object::child(&mut object, "status").insert("phase".into(), "Terminating".into());
    }
    if object == *current {
        Plan::Keep
    } else {
        Plan::Mark(object)
    }
}

/// How long the object may go on: only pods on a node have a grace period.
fn grace(kind: &Kind, object: &Value, asked: Option<i64>) -> i64 {
    let runs = (kind.group(), kind.plural()) == ("", "pods")
        && !text(object, "/spec/nodeName").is_empty()
        && !matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
    if !runs {
        return 0;
    }
    let own = || object.pointer("/spec/terminationGracePeriodSeconds")?.as_i64();
    // Kubernetes takes a negative period for one second.
    match asked.or_else(own).unwrap_or(30) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn set_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let mut finalizers = list(object, "/metadata/finalizers").to_vec();
    finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    let metadata = object::metadata(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
}

/// Whether finalizers hold the object.
fn is_held(kind: &Kind, object: &Value) -> bool {
    !list(object, "/metadata/finalizers").is_empty()
        || is_namespace(kind) && !list(object, "/spec/finalizers").is_empty()
}

fn is_namespace(kind: &Kind) -> bool {
    (kind.group(), kind.plural()) == ("", "namespaces")
}

/// Whether an update has taken away the last thing that an object being deleted waited for.
pub(crate) fn is_finished(kind: &Kind, object: &Value) -> bool {
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds");
    !text(object, "/metadata/deletionTimestamp").is_empty()
        && grace.and_then(Value::as_i64).unwrap_or(0) == 0
        && !is_held(kind, object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str) -> Value {
        json!({ "metadata": { "name": "p", "generation": 1 },
                "spec": { "nodeName": node, "terminationGracePeriodSeconds": 20 }, "status": { "phase": "Running" } })
    }

    fn run(resource: &str, object: &Value, options: Options) -> Plan {
        let kind = kinds::find("", "v1", resource).unwrap();
        plan(kind, object, &options, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    fn marked(plan: Plan) -> Value {
        match plan {
            Plan::Mark(object) => object,
            other => panic!("not marked but {other:?}"),
        }
    }

    fn grace(seconds: i64) -> Options {
        Options {
            grace: Some(seconds),
            ..Options::default()
        }
    }

    #[test]
    fn a_pod_on_a_node_goes_after_its_grace_period() {
        let first = marked(run("pods", &pod("n"), Options::default()));
        assert_eq!(
            text(&first, "/metadata/deletionTimestamp"),
            "2026-01-01T00:00:20Z"
        );
        assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], 20);
        // Asking again changes nothing, a longer period neither; a shorter one counts.
        assert_eq!(run("pods", &first, Options::default()), Plan::Keep);
        assert_eq!(run("pods", &first, grace(60)), Plan::Keep);
        let second = marked(run("pods", &first, grace(5)));
        assert_eq!(
            text(&second, "/metadata/deletionTimestamp"),
            "2026-01-01T00:00:05Z"
        );
        assert!(matches!(run("pods", &second, grace(0)), Plan::Remove(_)));
    }

    #[test]
    fn a_pod_that_runs_nowhere_goes_at_once() {
        assert!(matches!(
            run("pods", &pod(""), Options::default()),
            Plan::Remove(_)
        ));
        let mut done = pod("n");
        done["status"]["phase"] = "Succeeded".into();
        assert!(matches!(run("pods", &done, Options::default()), Plan::Remove(_)));
    }

    #[test]
    fn finalizers_hold_an_object_until_they_are_gone() {
        let object = json!({ "metadata": { "name": "c", "finalizers": ["x/y"] } });
        let mut held = marked(run("configmaps", &object, Options::default()));
        let kind = kinds::find("", "v1", "configmaps").unwrap();
        assert!(!is_finished(kind, &held));
        held["metadata"]["finalizers"] = json!([]);
        assert!(is_finished(kind, &held));
    }

    #[test]
    fn propagation_is_a_finalizer_for_the_garbage_collector() {
        let object = json!({ "metadata": { "name": "c" } });
        let with = |propagation| Options {
            propagation: Some(propagation),
            ..Options::default()
        };
        let held = marked(run("configmaps", &object, with(Propagation::Foreground)));
        assert_eq!(held["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        let held = marked(run("configmaps", &held, with(Propagation::Orphan)));
        assert_eq!(held["metadata"]["finalizers"], json!(["orphan"]));
        assert!(matches!(
            run("configmaps", &held, with(Propagation::Background)),
            Plan::Remove(_)
        ));
    }

    #[test]
    fn a_namespace_waits_for_the_namespace_controller() {
        let namespace = json!({ "metadata": { "name": "n" }, "spec": { "finalizers": ["kubernetes"] } });
        let held = marked(run("namespaces", &namespace, Options::default()));
        assert_eq!(held["status"]["phase"], "Terminating");
        assert_eq!(run("namespaces", &held, Options::default()), Plan::Keep);
    }

    #[test]
    fn options_come_from_body_and_query() {
        let body = json!({ "gracePeriodSeconds": 3, "preconditions": { "uid": "u" } });
        let query = Query::parse(Some(
            "gracePeriodSeconds=9&propagationPolicy=Foreground&dryRun=All",
        ));
        let options = Options::from_body(&body).unwrap().or_query(&query).unwrap();
        assert_eq!(
            options,
            Options {
                grace: Some(3),
                propagation: Some(Propagation::Foreground),
                uid: Some("u".into()),
                resource_version: None,
                dry_run: true,
            }
        );
        assert!(Options::from_body(&json!({ "propagationPolicy": "Sideways" })).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_options_panic(
            grace in proptest::option::of(proptest::prelude::any::<i64>()),
            policy in "(Orphan|Foreground|Background|[a-z]{0,5})",
            orphan: Option<bool>,
        ) {
            let body = json!({ "gracePeriodSeconds": grace, "propagationPolicy": policy, "orphanDependents": orphan });
            if let Ok(options) = Options::from_body(&body) {
                run("pods", &pod("n"), options);
            }
        }
    }
}
