//! From client-side apply to server-side apply: the annotation that kubectl keeps.

use serde_json::Value;

use super::compare::compare;
use super::fields::{Duplicates, fields_of};
use super::managers::Managers;
use super::own::{self, Applied, ApplyError, Author, Conflict};
use super::set::Set;
use super::shape::Shape;

/// Where kubectl's client-side apply notes what it applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Longer notes aren't kept, as annotations can't be: Kubernetes' limit for all of them together.
const MAX_ANNOTATION: usize = 256 << 10;
/// Only kubectl's own name goes over from one to the other.
const KUBECTL: &str = "kubectl";

/// Like `own::apply`; but what kubectl applied on the client's side, and nobody changed since, it may take
/// over from its former self without force, and the note follows.
pub fn apply(
    shape: Shape,
    live: Option<&Value>,
    configuration: &Value,
    managers: Managers,
    author: &Author<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    let outcome = own::apply(shape, live, configuration, managers.clone(), author, force);
    if author.name != KUBECTL {
        return outcome;
    }
    let mut applied = match (outcome, live.and_then(|live| taken_over(shape, live))) {
        (Err(ApplyError::Conflicts(conflicts)), Some(allowed)) => {
            let allowed = allowed.paths();
            let left: Vec<Conflict> = conflicts
                .into_iter()
                .filter(|conflict| !allowed.contains(&conflict.path))
                .collect();
            if !left.is_empty() {
                return Err(ApplyError::Conflicts(left));
            }
            own::apply(shape, live, configuration, managers, author, true)?
        }
        (outcome, _) => outcome?,
    };
    let annotations = applied
        .object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut);
    if let Some(annotations) = annotations
        && annotations.contains_key(LAST_APPLIED)
    {
        let note = note(configuration);
        if note.len() <= MAX_ANNOTATION {
            annotations.insert(LAST_APPLIED.to_owned(), note.into());
        } else {
            annotations.remove(LAST_APPLIED);
        }
    }
    Ok(applied)
}

/// What the note says and the object still has.
fn taken_over(shape: Shape, live: &Value) -> Option<Set> {
    let annotations = live.pointer("/metadata/annotations")?;
    let last: Value = serde_json::from_str(annotations.get(LAST_APPLIED)?.as_str()?).ok()?;
    if last.get("apiVersion") != live.get("apiVersion") {
        return None;
    }
    let (fields, _) = fields_of(shape, &last, Duplicates::Allow);
    let since = compare(shape, Some(&last), Some(live));
    let left = fields.difference(&since.modified).difference(&since.added);
    Some(left.difference(&since.removed))
}

/// The note of a configuration: the configuration, but for the note in it.
fn note(configuration: &Value) -> String {
    let mut configuration = configuration.clone();
    if let Some(annotations) = configuration
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    format!("{configuration}\n")
}
