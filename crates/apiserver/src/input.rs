//! Request bodies: read within bounds, parsed, and checked against their kind.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use kinds::Kind;
use serde_json::Value;

use crate::document::Document;
use crate::managed;
use crate::object;
use crate::path::Query;
use crate::reply::Body;
use crate::status::Failure;

/// Kubernetes' limit.
const MAX_BODY: usize = 3 << 20;

/// What to do about fields that the kind doesn't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    /// `options` is what Kubernetes calls the parameters of the request's verb.
    pub(crate) fn parse(query: &Query, options: &str) -> Result<FieldValidation, Failure> {
        match query.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(Failure::invalid_option(
                options,
                "fieldValidation",
                kinds::Reason::NotSupported,
                format!(
                    "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                ),
            )),
        }
    }
}

impl FieldValidation {
    /// What becomes of complaints: warnings, nothing, or a refusal.
    pub(crate) fn judge(
        self,
        complaints: Vec<String>,
        refuse: impl FnOnce(&str) -> Failure,
    ) -> Result<Vec<String>, Failure> {
        match self {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Warn => Ok(complaints),
            FieldValidation::Strict if complaints.is_empty() => Ok(complaints),
            FieldValidation::Strict => Err(refuse(&format!(
                "strict decoding error: {}",
                complaints.join(", ")
            ))),
        }
    }
}

/// Whether nothing is to be stored.
pub(crate) fn dry_run(query: &Query, options: &str) -> Result<bool, Failure> {
    let mut asked = false;
    for value in query.all("dryRun").filter(|value| !value.is_empty()) {
        if value != "All" {
            return Err(Failure::invalid_option(
                options,
                "dryRun",
                kinds::Reason::NotSupported,
                format!("Unsupported value: {value:?}: supported values: \"All\""),
            ));
        }
        asked = true;
    }
    Ok(asked)
}

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole body.
pub(crate) async fn read(body: Body) -> Result<Bytes, Failure> {
    match tokio::time::timeout(PATIENCE, read_all(body)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::timeout()),
    }
}

async fn read_all(mut body: Body) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Failure::bad_request(format!("the request's body ended early: {error}")))?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > MAX_BODY {
                return Err(Failure::too_large(MAX_BODY));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// The media type, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// The body as JSON, YAML or protobuf, as its media type says. Protobuf that doesn't say what it is, is `like`.
pub(crate) fn parse(headers: &HeaderMap, body: &[u8], like: (&str, &str)) -> Result<Document, Failure> {
    match media_type(headers) {
        // curl's default: Kubernetes takes it for JSON as well.
        "" | "application/json" | "application/x-www-form-urlencoded" => parse_json(body),
        "application/yaml" | "text/yaml" | "application/x-yaml" => Document::parse_yaml(body)
            .map_err(|error| Failure::bad_request(format!("error parsing YAML: {error}"))),
        protobuf::MEDIA_TYPE => protobuf::decode(body, Some(like))
            .map(Document::plain)
            .map_err(|error| Failure::bad_request(format!("error parsing protobuf: {error}"))),
        other => Err(Failure::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ))),
    }
}

pub(crate) fn parse_json(body: &[u8]) -> Result<Document, Failure> {
    Document::parse(body).map_err(|error| Failure::bad_request(format!("error parsing JSON: {error}")))
}

/// An object read as its kind.
pub(crate) struct Typed {
    pub(crate) object: Value,
    /// What was dropped on the way, in Kubernetes' words.
    pub(crate) complaints: Vec<String>,
}

/// Reads an object as its kind: what doesn't fit is refused, what isn't known dropped and complained of.
pub(crate) fn typed(kind: &Kind, document: Document) -> Result<Typed, Failure> {
    let Document {
        mut value,
        duplicates,
        ..
    } = document;
    let found = value
        .as_object_mut()
        .ok_or_else(|| unreadable(kind, "it is not an object"))?;
    check_type(kind, found)?;
    let mut decoded = kind
        .decode(&value)
        .map_err(|error| unreadable(kind, &error.message))?;
    // An empty list means something here, unlike elsewhere, and doesn't survive decoding.
    if let Some(entries) = value["metadata"]
        .get("managedFields")
        .filter(|entries| managed::is_reset(entries))
    {
        object::metadata(&mut decoded.object).insert("managedFields".into(), entries.clone());
    }
    let duplicates = duplicates
        .iter()
        .map(|field| format!("duplicate field {field:?}"));
    let unknown = decoded
        .unknown
        .iter()
        .map(|field| format!("unknown field {field:?}"));
    // What a schema doesn't know is found after the text was read, what a type doesn't know while it is.
    let complaints = match kind.custom_schema() {
        Some(_) => duplicates.chain(unknown).collect(),
        None => unknown.chain(duplicates).collect(),
    };
    Ok(Typed {
        complaints,
        object: decoded.object,
    })
}

/// The body can't be taken for an object of its kind.
pub(crate) fn unreadable(kind: &Kind, why: &str) -> Failure {
    Failure::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        kind.kind(),
        kind.version(),
        kind.kind()
    ))
}

/// The object's own words about its type must fit the path; where it says nothing, the path's count.
fn check_type(kind: &Kind, object: &mut serde_json::Map<String, Value>) -> Result<(), Failure> {
    let expected = kind.api_version();
    match object.get("apiVersion").and_then(Value::as_str) {
        None | Some("") => {
            object.insert("apiVersion".into(), expected.into());
        }
        Some(found) if found != expected => {
            return Err(Failure::bad_request(format!(
                "the API version in the data ({found}) does not match the expected API version ({expected})"
            )));
        }
        Some(_) => {}
    }
    match object.get("kind").and_then(Value::as_str) {
        None | Some("") => {
            object.insert("kind".into(), kind.kind().into());
            Ok(())
        }
        Some(found) if found != kind.kind() => Err(Failure::bad_request(format!(
            "{found} in version {:?} cannot be handled as a {}",
            kind.version(),
            kind.kind()
        ))),
        Some(_) => Ok(()),
    }
}
