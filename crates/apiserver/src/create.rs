//! Creating objects.

use bytes::Bytes;
use kinds::Kind;
use patch::apply::{self, Managers};
use rand::Rng;
use serde_json::Value;
use store::Write;

use crate::auth::authorize::{self, Action};
use crate::auth::{accounts, rbac, restriction};
use crate::call::Call;
use crate::managed::{self, Writer};
use crate::object::{self, text};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};
use crate::update::Part;
use crate::{admission, definitions, delete, services};

/// How long a name made from `generateName` may be.
const MAX_GENERATED: usize = 63;
/// How many random characters it ends with.
const RANDOM: usize = 5;
/// How often another random name is tried.
const TRIES: usize = 8;

/// Creates an object of the call's kind and returns it as stored.
pub(crate) async fn create(server: &ApiServer, call: &Call, object: Value) -> Result<Bytes, Failure> {
    create_owned(server, call, object, None).await
}

/// Creates an object whose fields have their owners already.
pub(crate) async fn create_applied(
    server: &ApiServer,
    call: &Call,
    object: Value,
    managers: Managers,
) -> Result<Bytes, Failure> {
    create_owned(server, call, object, Some(&managers)).await
}

async fn create_owned(
    server: &ApiServer,
    call: &Call,
    mut object: Value,
    managers: Option<&Managers>,
) -> Result<Bytes, Failure> {
    let kind = &call.kind;
    check_place(call, &object)?;
    strip(kind, &mut object);
    let generated = text(&object, "/metadata/name").is_empty();
    let base = text(&object, "/metadata/generateName").to_owned();
    let metadata = object::metadata(&mut object);
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), object::now().into());
    if kind.generation() != kinds::Generation::None {
        metadata.insert("generation".into(), 1.into());
    }
    if let Some(namespace) = &call.namespace {
        metadata.insert("namespace".into(), namespace.as_str().into());
    }
    for _ in 0..TRIES {
        if generated && !base.is_empty() {
            object::metadata(&mut object).insert("name".into(), random_name(&base).into());
        }
        match create_named(server, call, object.clone(), managers).await {
            Err(failure) if generated && failure.reason == "AlreadyExists" => {}
            outcome => return outcome,
        }
    }
    Err(Failure::no_name_left(Subject::of(kind, &base)))
}

/// Whether a PUT creates what isn't there: Kubernetes settled that kind by kind.
pub(crate) fn may_be_put(kind: &Kind) -> bool {
    matches!(
        (kind.group(), kind.plural()),
        ("", "endpoints" | "events" | "limitranges" | "services")
            | ("coordination.k8s.io", "leases")
            | ("node.k8s.io", "runtimeclasses")
            | (
                "rbac.authorization.k8s.io",
                "clusterroles" | "clusterrolebindings" | "roles" | "rolebindings"
            )
    )
}

/// Whether a request that names an object which isn't there may create it.
pub(crate) fn check_named(server: &ApiServer, call: &Call, object: &Value) -> Result<(), Failure> {
    let action = Action {
        verb: "create",
        group: call.kind.group(),
        resource: call.kind.plural(),
        namespace: call.namespace.as_deref().unwrap_or_default(),
        name: call.name()?,
        ..Action::default()
    };
    authorize::check(server, &call.identity, &action)?;
    // Who knows the object's uid means one that was there before.
    match text(object, "/metadata/uid") {
        "" => Ok(()),
        uid => Err(delete::uid_conflict(call.subject(), uid, "")),
    }
}

/// Creates what a PUT didn't find.
pub(crate) async fn put(server: &ApiServer, call: &Call, mut object: Value) -> Result<Bytes, Failure> {
    check_named(server, call, &object)?;
    let metadata = object::metadata(&mut object);
    metadata.insert("name".into(), call.name()?.into());
    metadata.remove("resourceVersion");
    create(server, call, object).await
}

async fn create_named(
    server: &ApiServer,
    call: &Call,
    mut object: Value,
    managers: Option<&Managers>,
) -> Result<Bytes, Failure> {
    let kind = &call.kind;
    let name = text(&object, "/metadata/name").to_owned();
    if let Some(namespace) = &call.namespace {
        check_namespace(server, Subject::of(kind, &name), namespace)?;
    }
    kind.default(&mut object);
    kind.prepare(&mut object, None);
    let _turn = definitions::turn(server, kind).await;
    definitions::settle(server, kind, &mut object)?;
    if kind.is("", "pods") {
        admission::admit(server, &mut object)?;
        accounts::admit(server, &mut object).await?;
    }
    admission::check(server, kind, &object)?;
    restriction::create(server, &call.identity, kind, &object)?;
    let errors = kind.validate(&object, None);
    if !errors.is_empty() {
        return Err(Failure::invalid(kind.kind(), kind.group(), &name, &errors));
    }
    rbac::check_escalation(server, &call.identity, kind, None, &object)?;
    if name.is_empty() || name.contains('/') {
        return Err(Failure::bad_request("metadata.name can't be part of a path"));
    }
    own(call, &mut object, managers);
    let key = object::key(kind, call.namespace.as_deref(), &name);
    let subject = Subject::of(kind, &name);
    services::settle(server, kind, None, &mut object)?;
    let exists = || server.store.get(&key).map(|entry| entry.is_some());
    for _ in 0..TRIES {
        let mut object = object.clone();
        let claims = match services::claim(server, kind, None, &mut object) {
            Err(_) if exists()? => return Err(Failure::already_exists(subject)),
            claims => claims?,
        };
        if call.dry_run {
            return match exists()? {
                true => Err(Failure::already_exists(subject)),
                false => Ok(object::unstored(kind, object)),
            };
        }
        let mut writes = vec![Write::Create {
            key: key.clone(),
            value: object::encode(kind, object),
        }];
        writes.extend(claims);
        match server.store.write(writes).await {
            Ok(entries) => return Ok(entries[0].value.clone()),
            Err(store::Error::Exists) if exists()? => return Err(Failure::already_exists(subject)),
            // What it wanted to have is somebody else's by now.
            Err(store::Error::Exists) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::too_many_requests())
}

/// Notes who owns the new object's fields: who creates it, unless it is known better.
fn own(call: &Call, object: &mut Value, managers: Option<&Managers>) {
    let writer = Writer {
        kind: &call.kind,
        part: Part::Main,
        manager: &call.manager,
        subresource: "",
    };
    let managers = managers
        .cloned()
        .unwrap_or_else(|| writer.author(|author| apply::create(managed::shape(&call.kind), object, author)));
    managed::put(object, &managers);
}

/// The object must belong where it is sent to, and be new.
fn check_place(call: &Call, object: &Value) -> Result<(), Failure> {
    let found = text(object, "/metadata/namespace");
    if !found.is_empty() && Some(found) != call.namespace.as_deref() {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if call.kind.namespaced() && call.namespace.is_none() {
        return Err(Failure::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    if !text(object, "/metadata/resourceVersion").is_empty() {
        return Err(Failure::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    Ok(())
}

/// Takes away what only the server sets.
fn strip(kind: &Kind, object: &mut Value) {
    let metadata = object::metadata(object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
    ] {
        metadata.remove(field);
    }
    // A kubelet registers its node with what it has seen of it.
    if kind.has_status() && kind.plural() != "nodes" {
        object::assign(object, "status", None);
    }
}

/// Nothing is created in a namespace that isn't there, or is about to go.
fn check_namespace(server: &ApiServer, subject: Subject<'_>, namespace: &str) -> Result<(), Failure> {
    let namespaces = server.namespaces();
    let subject_namespace = Subject::of(namespaces, namespace);
    let entry = server.store.get(&object::key(namespaces, None, namespace))?;
    let entry = entry.ok_or_else(|| Failure::not_found(subject_namespace))?;
    let found = object::parse(&entry.value)?;
    if text(&found, "/metadata/deletionTimestamp").is_empty() {
        Ok(())
    } else {
        Err(Failure::terminating(subject, namespace))
    }
}

/// A name made from `generateName`, as Kubernetes makes them: without vowels, so that no words appear.
pub(crate) fn random_name(base: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let keep = (0..=base.len().min(MAX_GENERATED - RANDOM))
        .rev()
        .find(|&end| base.is_char_boundary(end))
        .unwrap_or(0);
    let mut random = rand::rng();
    let tail = (0..RANDOM).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]));
    base[..keep].chars().chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_their_base_and_fit() {
        let name = random_name("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(random_name(&"x".repeat(80)).len(), 63);
    }
}
