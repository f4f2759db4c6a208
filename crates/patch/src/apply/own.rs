//! Who owns what after a change: the rules of server-side apply.

use serde_json::{Map, Value};

use super::compare::{Comparison, compare};
use super::element::Element;
use super::fields::{Duplicates, fields_of};
use super::managers::{Manager, Managers, Operation, Owned};
use super::merge::merge;
use super::parts::without_parts;
use super::remove::remove;
use super::set::Set;
use super::shape::Shape;

/// Who owned an untracked object before somebody applied to it.
const BEFORE: &str = "before-first-apply";

/// The fields of metadata that nobody owns: the server sets them, or they say which object it is.
const OWNERLESS: [&str; 8] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Which part of an object a request can change: nothing else is owned through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Whole,
    /// Everything but the status.
    NotStatus,
    /// The status, and of the metadata all but these fields.
    Status {
        /// Names of fields of the metadata.
        kept: &'static [&'static str],
    },
}

/// Who changes an object, and through what.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// The field manager's name.
    pub name: &'a str,
    /// The API version of the request.
    pub api_version: &'a str,
    /// The subresource of the request, or nothing.
    pub subresource: &'a str,
    /// What the request can change.
    pub scope: Scope,
    /// The time, as objects hold it.
    pub now: &'a str,
}

impl Author<'_> {
    fn manager(&self, operation: Operation, name: &str) -> Manager {
        Manager::new(operation, name, self.api_version, self.subresource)
    }

    fn owned(&self, fields: Set) -> Owned {
        Owned {
            fields,
            api_version: self.api_version.to_owned(),
            time: Some(self.now.to_owned()),
        }
    }

    /// What of a set can be owned through this request.
    fn keep(&self, mut set: Set) -> Set {
        let (status, metadata) = (Element::field("status"), Element::field("metadata"));
        let mut ownerless = &[][..];
        match self.scope {
            Scope::Whole => {}
            Scope::NotStatus => _ = set.take(&status),
            Scope::Status { kept } => {
                let mut rest = Set::default();
                for part in [&status, &metadata] {
                    if let Some(fields) = set.take(part) {
                        rest.put(part.clone(), fields);
                    }
                }
                (set, ownerless) = (rest, kept);
            }
        }
        for field in ["apiVersion", "kind"] {
            set.take(&Element::field(field));
        }
        if let Some(mut fields) = set.take(&metadata) {
            for field in OWNERLESS.iter().chain(ownerless) {
                fields.take(&Element::field(field));
            }
            set.put(metadata, fields.without_member());
        }
        set
    }

    fn compare(&self, shape: Shape, old: &Value, new: &Value) -> Comparison {
        let comparison = compare(shape, Some(old), Some(new));
        Comparison {
            added: self.keep(without_parts(comparison.added)),
            modified: self.keep(comparison.modified),
            removed: self.keep(without_parts(comparison.removed)),
        }
    }
}

/// Two managers want different things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns the field.
    pub manager: String,
    /// The field.
    pub path: String,
}

/// Why something can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration isn't one of its kind: a path and what is wrong there, for each mistake.
    #[error("{}", .0.join("\n"))]
    Schema(Vec<String>),
    /// Others own what it wants to change: leave these fields out, or force it.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        let Conflict { manager, path } = conflict;
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut lines = Vec::new();
    let mut last = None;
    for Conflict { manager, path } in conflicts {
        if last.replace(manager) != Some(manager) {
            lines.push(format!("conflicts with {manager}:"));
        }
        lines.push(format!("- {path}"));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

/// The object that an apply makes, and who owns it then.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object, before defaults.
    pub object: Value,
    /// Its managers.
    pub managers: Managers,
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

/// The managers of a new object: its author owns all of it.
pub fn create(shape: Shape, object: &Value, author: &Author<'_>) -> Managers {
    take(
        shape,
        &nothing(),
        object,
        Managers::default(),
        author,
        author.name,
    )
}

/// The managers after an ordinary change: the author owns what it changed, and nobody else does. An object
/// that isn't tracked stays so.
pub fn update(shape: Shape, old: &Value, new: &Value, managers: Managers, author: &Author<'_>) -> Managers {
    if managers.is_empty() {
        return managers;
    }
    take(shape, old, new, managers, author, author.name)
}

fn take(
    shape: Shape,
    old: &Value,
    new: &Value,
    mut managers: Managers,
    author: &Author<'_>,
    name: &str,
) -> Managers {
    let comparison = author.compare(shape, old, new);
    let me = author.manager(Operation::Update, name);
    let changed = comparison.modified.union(comparison.added);
    for (manager, owned) in &mut managers.0 {
        if *manager != me {
            owned.fields = owned.fields.difference(&changed);
        }
        owned.fields = owned.fields.difference(&comparison.removed);
    }
    if !changed.is_empty() {
        let mine = managers.0.remove(&me);
        let mine = mine.map(|owned| owned.fields).unwrap_or_default();
        managers.0.insert(me, author.owned(mine.union(changed)));
    }
    managers.forget_those_without_fields();
    managers.cap();
    managers
}

/// Applies a configuration to an object. `live` is none where the object is to be created.
pub(super) fn apply(
    shape: Shape,
    live: Option<&Value>,
    configuration: &Value,
    managers: Managers,
    author: &Author<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    let (fields, mistakes) = fields_of(shape, configuration, Duplicates::Refuse);
    if !mistakes.is_empty() {
        return Err(ApplyError::Schema(mistakes));
    }
    let fields = author.keep(fields);
    let (live, mut managers) = match live {
        Some(live) if managers.is_empty() => {
            let managers = take(shape, &nothing(), live, managers, author, BEFORE);
            (live.clone(), managers)
        }
        Some(live) => (live.clone(), managers),
        None => (nothing(), managers),
    };
    let merged = merge(shape, &live, configuration);
    let me = author.manager(Operation::Apply, author.name);
    let last = managers.0.insert(me.clone(), author.owned(fields));
    let object = match &last {
        Some(last) => prune(shape, merged, &managers, &last.fields),
        None => merged,
    };
    let comparison = author.compare(shape, &live, &object);
    settle(&mut managers, &me, comparison, force)?;
    managers.forget_those_without_fields();
    if let (Some(owned), Some(last)) = (managers.0.get_mut(&me), last)
        && object == live
        && owned.fields == last.fields
    {
        owned.time = last.time;
    }
    Ok(Applied { object, managers })
}

/// Takes from the others what the applier changes, if it may.
fn settle(
    managers: &mut Managers,
    me: &Manager,
    comparison: Comparison,
    force: bool,
) -> Result<(), ApplyError> {
    let changed = comparison.modified.union(comparison.added);
    let mut conflicts = Vec::new();
    for (manager, owned) in managers.0.iter_mut().filter(|(manager, _)| *manager != me) {
        let conflict = owned.fields.intersection(&changed);
        conflicts.extend(conflict.paths().into_iter().map(|path| Conflict {
            manager: manager.to_string(),
            path,
        }));
        owned.fields = owned.fields.difference(&changed).difference(&comparison.removed);
    }
    if conflicts.is_empty() || force {
        return Ok(());
    }
    conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
    Err(ApplyError::Conflicts(conflicts))
}

/// Removes what the applier applied last time, doesn't apply now, and nobody else owns.
fn prune(shape: Shape, merged: Value, managers: &Managers, last: &Set) -> Value {
    let stored = |object: &Value| {
        fields_of(shape, object, Duplicates::Allow)
            .0
            .with_fields_on_the_way()
    };
    let without = |set: &Set| remove(shape, &merged, set).unwrap_or_else(nothing);
    let last = last.with_fields_on_the_way();
    let owned = managers
        .0
        .values()
        .fold(Set::default(), |all, owned| all.union(owned.fields.clone()));
    let everything = stored(&merged);
    // What others own comes back, …
    let kept = stored(&without(&last)).union(owned.with_fields_on_the_way());
    let pruned = stored(&without(&everything.difference(&kept)));
    // … and so does what never was the applier's.
    without(&everything.difference(&pruned).intersection(&last))
}
