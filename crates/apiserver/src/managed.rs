//! Who owns which fields of an object: `metadata.managedFields`, kept by every write.

use http::{HeaderMap, header};
use kinds::{FieldError, Kind, Reason};
use patch::apply::{Author, Managers, Scope, Shape};
use serde_json::{Value, json};

use crate::object;
use crate::path::Query;
use crate::status::Failure;
use crate::update::Part;

/// How long a manager's name may be.
const MAX_NAME: usize = 128;

/// In whose name a request writes: the parameter `fieldManager`, or what the client says it is.
pub(crate) fn manager(query: &Query, headers: &HeaderMap, options: &str) -> Result<String, Failure> {
    if let Some(name) = query.get("fieldManager") {
        check_name(name, options)?;
        return Ok(name.to_owned());
    }
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let name = agent.unwrap_or_default().split('/').next().unwrap_or_default();
    let printable = name.chars().filter(|c| !c.is_control());
    let mut short = String::new();
    for c in printable.take_while(|c| *c != '\u{fffd}') {
        if short.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        short.push(c);
    }
    Ok(if short.is_empty() {
        "unknown".to_owned()
    } else {
        short
    })
}

fn check_name(name: &str, options: &str) -> Result<(), Failure> {
    let refuse =
        |reason, message: String| Err(Failure::invalid_option(options, "fieldManager", reason, message));
    if name.len() > MAX_NAME {
        return refuse(
            Reason::TooLong,
            format!("Too long: may not be more than {MAX_NAME} bytes"),
        );
    }
    if name.chars().any(char::is_control) {
        let message = format!("Invalid value: {name:?}: should only contain printable characters");
        return refuse(Reason::Invalid, message);
    }
    Ok(())
}

/// How the objects of a kind merge.
pub(crate) fn shape(kind: &Kind) -> Shape<'_> {
    match kind.custom_schema() {
        Some(schema) => Shape::of_schema(schema),
        None => Shape::of(kind.group(), kind.version(), kind.kind()),
    }
}

/// What a write needs to know of its author.
pub(crate) struct Writer<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) part: Part,
    pub(crate) manager: &'a str,
    pub(crate) subresource: &'a str,
}

impl Writer<'_> {
    /// Runs `change` with the author that this writer is now.
    pub(crate) fn author<T>(&self, change: impl FnOnce(&Author<'_>) -> T) -> T {
        let (api_version, now) = (self.kind.api_version(), object::now());
        change(&Author {
            name: self.manager,
            api_version: &api_version,
            subresource: self.subresource,
            scope: match self.part {
                Part::Status => Scope::Status {
                    kept: self.kind.kept_by_status(),
                },
                Part::Main if self.kind.has_status() => Scope::NotStatus,
                Part::Ephemeral => Scope::NotStatus,
                Part::Main | Part::Server => Scope::Whole,
            },
            now: &now,
        })
    }
}

/// Takes the managers out of a stored object.
pub(crate) fn take(object: &mut Value) -> Managers {
    let entries = object["metadata"]
        .as_object_mut()
        .and_then(|metadata| metadata.remove("managedFields"));
    // Nobody but this server writes them; what it can't read is as good as none.
    entries
        .and_then(|entries| Managers::from_json(&entries))
        .unwrap_or_default()
}

/// Puts managers into an object.
pub(crate) fn put(object: &mut Value, managers: &Managers) {
    let metadata = object::metadata(object);
    if managers.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), managers.to_json());
    }
}

/// The managers that an update starts from: those that the client sends back, or the current ones, if it
/// sends none. An empty list, or one empty entry, is the wish to forget them all.
pub(crate) fn requested(wanted: &mut Value, current: &Managers, part: Part) -> Managers {
    let entries = wanted["metadata"]
        .as_object_mut()
        .and_then(|metadata| metadata.remove("managedFields"));
    let Some(entries) = entries.filter(|_| part == Part::Main) else {
        return current.clone();
    };
    if is_reset(&entries) {
        return Managers::default();
    }
    match Managers::from_json(&entries) {
        Some(managers) if !managers.is_empty() => managers,
        _ => current.clone(),
    }
}

/// Whether a client's `managedFields` say that nobody owns anything any more.
pub(crate) fn is_reset(entries: &Value) -> bool {
    *entries == json!([]) || *entries == json!([{}])
}

/// What a kind's own errors say of the path of a field.
pub(crate) fn required(field: &str, message: &str) -> FieldError {
    FieldError {
        reason: Reason::Required,
        field: field.to_owned(),
        message: format!("Required value: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(query: &str, agent: &str) -> Result<String, Failure> {
        let headers = HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())]);
        manager(&Query::parse(Some(query)), &headers, "PatchOptions")
    }

    #[test]
    fn a_manager_is_named_by_the_client_or_after_it() {
        assert_eq!(named("fieldManager=me", "kubectl/v1").unwrap(), "me");
        assert_eq!(named("", "kubectl/v1.32.4 (linux/amd64)").unwrap(), "kubectl");
        assert_eq!(named("", "").unwrap(), "unknown");
        assert_eq!(named("", &"x".repeat(300)).unwrap().len(), 128);
        let long = named(&format!("fieldManager={}", "x".repeat(129)), "").unwrap_err();
        assert_eq!(
            (long.code.as_u16(), long.message.as_str()),
            (
                422,
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes"
            )
        );
        assert_eq!(named("fieldManager=a%0Ab", "").unwrap_err().code, 422);
    }
}
