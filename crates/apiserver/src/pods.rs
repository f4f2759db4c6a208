//! What can be done to pods alone: binding them to a node, adding ephemeral containers, and evicting them.

use http::StatusCode;
use kinds::Kind;
use serde_json::{Value, json};

use crate::auth::restriction;
use crate::budget::{self, Leave};
use crate::call::Call;
use crate::delete;
use crate::object::{self, list, text};
use crate::reply::{Request, Response};
use crate::resource;
use crate::server::ApiServer;
use crate::status::{Failure, Subject};
use crate::update::{self, Change, Part};

/// Binds a pod to a node: the scheduler's decision.
pub(crate) async fn bind(server: &ApiServer, call: &Call, request: Request) -> Result<Response, Failure> {
    let binding = resource::read(request, ("v1", "Binding")).await?;
    update::check_name(call.name()?, call.namespace.as_deref(), &binding)?;
    let node = text(&binding, "/target/name");
    if node.is_empty() || !matches!(text(&binding, "/target/kind"), "" | "Node") {
        let error = kinds::FieldError {
            reason: kinds::Reason::Required,
            field: "target.name".into(),
            message: "Required value: the target must be a Node".into(),
        };
        return Err(Failure::invalid("Binding", "", call.name()?, &[error]));
    }
    let target = resource::target(call, Part::Server)?;
    update::update(server, target, |pod| {
        Ok(Change::To(bound(call, &binding, node, pod)?))
    })
    .await?;
    resource::created(call)
}

/// The pod, bound.
fn bound(call: &Call, binding: &Value, node: &str, pod: &Value) -> Result<Value, Failure> {
    let name = call.name()?;
    let subject = Subject {
        resource: "pods/binding",
        ..call.subject()
    };
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(Failure::conflict(subject, &why));
    }
    let current = text(pod, "/spec/nodeName");
    if !current.is_empty() {
        let why = format!("pod {name} is already assigned to node {current:?}");
        return Err(Failure::conflict(subject, &why));
    }
    let uid = text(binding, "/metadata/uid");
    if !uid.is_empty() && uid != text(pod, "/metadata/uid") {
        return Err(delete::uid_conflict(subject, uid, text(pod, "/metadata/uid")));
    }
    let mut pod = pod.clone();
    // Who else changed the pod meanwhile doesn't matter to the scheduler's choice, unless it was bound.
    object::metadata(&mut pod).remove("resourceVersion");
    if let Some(annotations) = binding
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
    {
        object::child(&mut pod["metadata"], "annotations").extend(annotations.clone());
    }
    object::child(&mut pod, "spec").insert("nodeName".into(), node.into());
    let mut conditions = list(&pod, "/status/conditions").to_vec();
    conditions.retain(|condition| text(condition, "/type") != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": object::now(),
    }));
    let status = object::child(&mut pod, "status");
    status.insert("conditions".into(), conditions.into());
    // Where room was to be made for it says nothing any more.
    status.remove("nominatedNodeName");
    Ok(pod)
}

const EPHEMERAL: &str = "ephemeralContainers";

/// What comes through `pods/NAME/ephemeralcontainers`: the rest of the pod stays as it is.
pub(crate) fn keep_but_ephemeral(current: &Value, wanted: &mut Value) {
    let containers = wanted["spec"].get(EPHEMERAL).cloned();
    // Which pod is meant was checked before.
    *wanted = current.clone();
    object::assign(&mut wanted["spec"], EPHEMERAL, containers.as_ref());
}

/// Refuses ephemeral containers that don't come through their own subresource, whose rights are others'.
pub(crate) fn same_ephemeral(
    subject: Subject<'_>,
    kind: &Kind,
    current: &Value,
    wanted: &Value,
) -> Result<(), Failure> {
    let containers = |pod: &Value| list(pod, "/spec/ephemeralContainers").len();
    if !kind.is("", "pods") || containers(current) >= containers(wanted) {
        // One that changes or is missing is told by validation.
        return Ok(());
    }
    let error = kinds::FieldError {
        reason: kinds::Reason::Forbidden,
        field: "spec.ephemeralContainers".into(),
        message: "Forbidden: they are added through the pod's ephemeralcontainers subresource, as `kubectl debug` does"
            .into(),
    };
    Err(Failure::invalid("Pod", "", subject.name, &[error]))
}

/// The condition of pods that somebody lets go.
const DISRUPTION: &str = "DisruptionTarget";
/// How often an eviction is tried again when the pod changes meanwhile.
const TRIES: usize = 32;

/// Evicts a pod: a deletion that asks first whether the pod may be spared.
pub(crate) async fn evict(server: &ApiServer, call: &Call, request: Request) -> Result<Response, Failure> {
    let eviction = resource::read(request, ("policy/v1", "Eviction")).await?;
    update::check_name(call.name()?, call.namespace.as_deref(), &eviction)?;
    let options = eviction.get("deleteOptions").unwrap_or(&Value::Null);
    let mut options = delete::Options::from_body(options)?;
    options.dry_run |= call.dry_run;
    let namespace = call.namespace.as_deref();
    let place = namespace.unwrap_or_default();
    restriction::remove_pod(server, &call.identity, call.subject(), place, "evict")?;
    let key = object::key(&call.kind, namespace, call.name()?);
    for _ in 0..TRIES {
        let entry = server.store.get(&key)?;
        let entry = entry.ok_or_else(|| Failure::not_found(call.subject()))?;
        let pod = object::read(&call.kind, &entry.value)?;
        delete::check_preconditions(call.subject(), &pod, &options)?;
        let mut options = options.clone();
        let leave = budget::take(server, &pod, options.dry_run).await?;
        let held = leave == Leave::AsItIs && options.resource_version.is_none();
        if held {
            options.resource_version = Some(text(&pod, "/metadata/resourceVersion").to_owned());
        }
        match mark_and_delete(server, call, options).await {
            Err(failure) if held && failure.code == StatusCode::CONFLICT => {}
            other => return other.and_then(|()| resource::created(call)),
        }
    }
    Err(Failure::modified(call.subject()))
}

/// Deletes a pod that says that it goes for no fault of its own.
async fn mark_and_delete(
    server: &ApiServer,
    call: &Call,
    mut options: delete::Options,
) -> Result<(), Failure> {
    if !options.dry_run {
        let target = resource::target(call, Part::Server)?;
        let marked = update::update(server, target, |pod| {
            delete::check_preconditions(call.subject(), pod, &options)?;
            Ok(Change::To(disrupted(pod)))
        });
        let marked = object::read(&call.kind, &marked.await?)?;
        if let Some(version) = &mut options.resource_version {
            text(&marked, "/metadata/resourceVersion").clone_into(version);
        }
    }
    let namespace = call.namespace.as_deref();
    let deleted = delete::delete(server, &call.kind, namespace, call.name()?, &options).await;
    deleted.map(drop)
}

/// The pod with the condition of one that is evicted through the API.
fn disrupted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    object::metadata(&mut pod).remove("resourceVersion");
    let mut conditions = list(&pod, "/status/conditions").to_vec();
    let reason = "EvictionByEvictionAPI";
    let is_so =
        |condition: &Value| text(condition, "/type") == DISRUPTION && text(condition, "/reason") == reason;
    if !conditions.iter().any(is_so) {
        conditions.retain(|condition| text(condition, "/type") != DISRUPTION);
        conditions.push(json!({
            "type": DISRUPTION, "status": "True", "reason": reason, "message": "Eviction API: evicting",
            "lastProbeTime": null, "lastTransitionTime": object::now(),
        }));
        object::child(&mut pod, "status").insert("conditions".into(), conditions.into());
    }
    pod
}
