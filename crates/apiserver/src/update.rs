//! Changing objects: read, change, compare, swap; whole objects or one part of them.

use bytes::Bytes;
use kinds::Kind;
use patch::apply::{self, Managers};
use serde_json::Value;
use store::Write;

use crate::auth::identity::Identity;
use crate::auth::{rbac, restriction};
use crate::managed::{self, Writer};
use crate::object::{self, assign, text};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};
use crate::{admission, definitions, delete, pods, services};

/// How often a change without a resource version is tried again when others interfere.
const TRIES: usize = 32;

/// The part of an object that a change may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status, where the kind has a status subresource.
    Main,
    /// The status alone.
    Status,
    /// A pod's ephemeral containers alone; nothing else adds any.
    Ephemeral,
    /// What the server itself changes: taken as it is, without validation.
    Server,
}

/// Which object to change, and how.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) part: Part,
    pub(crate) dry_run: bool,
    /// In whose name fields change, and through which subresource.
    pub(crate) manager: &'a str,
    pub(crate) subresource: &'a str,
    /// Who changes it.
    pub(crate) identity: &'a Identity,
}

impl<'a> Target<'a> {
    fn subject(&self) -> Subject<'_> {
        Subject::of(self.kind, self.name)
    }

    pub(crate) fn writer(&self) -> Writer<'a> {
        Writer {
            kind: self.kind,
            part: self.part,
            manager: self.manager,
            subresource: self.subresource,
        }
    }
}

/// What a request makes of an object.
pub(crate) enum Change {
    /// Another state of it.
    To(Value),
    /// What applying a configuration makes of it, and who owns what then.
    Applied(Value, Managers),
}

/// Changes an object and returns it as stored. `change` makes the wanted object from the current one; it is
/// called again when somebody else was faster, unless the object it makes insists on a resource version.
pub(crate) async fn update(
    server: &ApiServer,
    target: Target<'_>,
    mut change: impl FnMut(&Value) -> Result<Change, Failure>,
) -> Result<Bytes, Failure> {
    let key = object::key(target.kind, target.namespace, target.name);
    let _turn = definitions::turn(server, target.kind).await;
    for _ in 0..TRIES {
        let entry = server
            .store
            .get(&key)?
            .ok_or_else(|| Failure::not_found(target.subject()))?;
        let current = object::read(target.kind, &entry.value)?;
        let change = change(&current)?;
        let (Change::To(wanted) | Change::Applied(wanted, _)) = &change;
        let insists = check_preconditions(&target, &current, wanted, entry.revision)?;
        let mut new = prepare(server, &target, &current, change)?;
        definitions::settle(server, target.kind, &mut new)?;
        if target.part != Part::Server {
            let status = target.part == Part::Status;
            admission::check(server, target.kind, &new)?;
            restriction::update(target.identity, target.kind, status, &current, &new)?;
            rbac::check_escalation(server, target.identity, target.kind, Some(&current), &new)?;
        }
        let gone = delete::is_finished(target.kind, &new);
        let claims = if gone {
            services::release(server, target.kind, &current)?
        } else {
            services::claim(server, target.kind, Some(&current), &mut new)?
        };
        if claims.is_empty() && is_kept(target.kind, &new, &current, &entry.value)? {
            return Ok(entry.value);
        }
        if target.dry_run {
            return Ok(object::unstored(target.kind, new));
        }
        let alone = claims.is_empty();
        let mut writes = vec![write(target.kind, key.clone(), new, entry.revision, gone)];
        writes.extend(claims);
        match server.store.write(writes).await {
            Ok(entries) => {
                definitions::release(server, target.kind, &current).await?;
                return Ok(entries[0].value.clone());
            }
            // Somebody was faster with what it wanted to have: the next look tells.
            Err(store::Error::Exists | store::Error::Conflict { .. } | store::Error::NotFound) if !alone => {}
            Err(store::Error::Conflict { .. }) if !insists => {}
            Err(store::Error::NotFound) if !insists => {}
            Err(store::Error::Conflict { .. }) => return Err(Failure::modified(target.subject())),
            Err(store::Error::NotFound) => return Err(Failure::not_found(target.subject())),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::modified(target.subject()))
}

/// The write that stores a changed object, or removes it.
pub(crate) fn write(kind: &Kind, key: String, new: Value, revision: u64, gone: bool) -> Write {
    let value = object::encode(kind, new);
    if gone {
        Write::Delete {
            key,
            last: value,
            revision,
        }
    } else {
        Write::Update { key, value, revision }
    }
}

/// Whether an object is what is stored already. What is kept in an old version is written anew.
fn is_kept(kind: &Kind, new: &Value, current: &Value, stored: &[u8]) -> Result<bool, Failure> {
    Ok(new == current && (kind.is_kept_as_is() || kind.write_kept(new.clone()) == object::parse(stored)?))
}

/// Whether the wanted object names the resource version it was made from; it must be the current one then,
/// and the uid as well.
fn check_preconditions(
    target: &Target<'_>,
    current: &Value,
    wanted: &Value,
    revision: u64,
) -> Result<bool, Failure> {
    let (uid, found) = (text(wanted, "/metadata/uid"), text(current, "/metadata/uid"));
    if !uid.is_empty() && uid != found {
        return Err(delete::uid_conflict(target.subject(), uid, found));
    }
    let version = text(wanted, "/metadata/resourceVersion");
    if version.is_empty() || version == "0" {
        return Ok(false);
    }
    match version.parse::<u64>() {
        Ok(version) if version == revision => Ok(true),
        Ok(_) => Err(Failure::modified(target.subject())),
        Err(_) => Err(Failure::invalid(
            target.kind.kind(),
            target.kind.group(),
            target.name,
            &[kinds::FieldError {
                reason: kinds::Reason::Invalid,
                field: "metadata.resourceVersion".into(),
                message: format!("Invalid value: {version:?}: must be a number"),
            }],
        )),
    }
}

/// Objects of some kinds are replaced only by who says which version of them is meant: Kubernetes settled that
/// kind by kind (`AllowUnconditionalUpdate` of its strategies).
pub(crate) fn check_version(kind: &Kind, wanted: &Value) -> Result<(), Failure> {
    let version = text(wanted, "/metadata/resourceVersion");
    let insists = kind.custom_schema().is_some()
        || matches!(
            (kind.group(), kind.plural()),
            ("apiextensions.k8s.io", "customresourcedefinitions")
                | ("coordination.k8s.io", "leases")
                | ("node.k8s.io", "runtimeclasses")
                | ("policy", "poddisruptionbudgets")
                | ("storage.k8s.io", "csidrivers" | "csinodes" | "volumeattachments")
        );
    if !insists || !version.is_empty() {
        return Ok(());
    }
    let error = kinds::FieldError {
        reason: kinds::Reason::Invalid,
        field: "metadata.resourceVersion".into(),
        message: "Invalid value: 0x0: must be specified for an update".into(),
    };
    let name = text(wanted, "/metadata/name");
    Err(Failure::invalid(kind.kind(), kind.group(), name, &[error]))
}

/// The object to store: the allowed part of the wanted one, the rest of the current one, checked.
fn prepare(
    server: &ApiServer,
    target: &Target<'_>,
    current: &Value,
    change: Change,
) -> Result<Value, Failure> {
    let kind = target.kind;
    let (mut wanted, applied) = match change {
        Change::To(wanted) => (wanted, None),
        Change::Applied(wanted, managers) => (wanted, Some(managers)),
    };
    if target.part == Part::Server {
        keep_system_fields(current, &mut wanted);
        assign(
            &mut wanted["metadata"],
            "managedFields",
            current["metadata"].get("managedFields"),
        );
        return Ok(wanted);
    }
    let mut bare = current.clone();
    let owners = managed::take(&mut bare);
    let requested = managed::requested(&mut wanted, &owners, target.part);
    match target.part {
        Part::Main if kind.has_status() => {
            pods::same_ephemeral(target.subject(), kind, &bare, &wanted)?;
            assign(&mut wanted, "status", bare.get("status"));
        }
        Part::Main | Part::Server => {}
        Part::Ephemeral => pods::keep_but_ephemeral(&bare, &mut wanted),
        Part::Status => {
            let mut with_status = bare.clone();
            assign(&mut with_status, "status", wanted.get("status"));
            for field in kind.kept_by_status() {
                assign(&mut wanted["metadata"], field, bare["metadata"].get(*field));
            }
            assign(&mut with_status, "metadata", wanted.get("metadata"));
            wanted = with_status;
        }
    }
    keep_system_fields(&bare, &mut wanted);
    kind.default(&mut wanted);
    kind.prepare(&mut wanted, Some(&bare));
    if target.part == Part::Main && kind.is("", "pods") {
        admission::admit_change(server, &mut wanted);
    }
    services::settle(server, kind, Some(&bare), &mut wanted)?;
    let errors = kind.validate(&wanted, Some(&bare));
    if !errors.is_empty() {
        return Err(Failure::invalid(kind.kind(), kind.group(), target.name, &errors));
    }
    let managers = applied.unwrap_or_else(|| {
        let shape = managed::shape(kind);
        let writer = target.writer();
        writer.author(|author| apply::update(shape, &bare, &wanted, requested, author))
    });
    // The time of a change that changed nothing is no change.
    if wanted == bare && managers.same_owners(&owners) {
        return Ok(current.clone());
    }
    if kind.is_new_generation(&wanted, &bare) {
        next_generation(&mut wanted);
    }
    managed::put(&mut wanted, &managers);
    Ok(wanted)
}

/// What no update changes.
fn keep_system_fields(current: &Value, wanted: &mut Value) {
    object::metadata(wanted).remove("selfLink");
    let metadata = &mut wanted["metadata"];
    for field in [
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        assign(metadata, field, current["metadata"].get(field));
    }
}

/// Counts a change of what is wanted.
pub(crate) fn next_generation(object: &mut Value) {
    let metadata = object::metadata(object);
    let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0);
    metadata.insert("generation".into(), (generation + 1).into());
}

/// The object of a PUT must be the one that its path names.
pub(crate) fn check_name(name: &str, namespace: Option<&str>, object: &Value) -> Result<(), Failure> {
    let found = text(object, "/metadata/name");
    if !found.is_empty() && found != name {
        return Err(Failure::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({name})"
        )));
    }
    let found = text(object, "/metadata/namespace");
    if !found.is_empty() && Some(found) != namespace {
        return Err(Failure::bad_request(format!(
            "the namespace of the object ({found}) does not match the namespace on the URL ({})",
            namespace.unwrap_or_default()
        )));
    }
    Ok(())
}
