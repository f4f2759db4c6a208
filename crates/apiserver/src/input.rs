//! Request bodies: read within bounds, parsed, and checked against their kind.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use kinds::Kind;
use serde_json::Value;

use crate::object::api_version;
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
    pub(crate) fn parse(query: &Query) -> Result<FieldValidation, Failure> {
        match query.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(Failure::invalid_option(
                "CreateOptions",
                "fieldValidation",
                kinds::Reason::NotSupported,
                format!("Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""),
            )),
        }
    }
}

/// Whether nothing is to be stored.
pub(crate) fn dry_run(query: &Query) -> Result<bool, Failure> {
    let mut asked = false;
    for value in query.all("dryRun").filter(|value| !value.is_empty()) {
        if value != "All" {
            return Err(Failure::invalid_option(
                "CreateOptions",
                "dryRun",
                kinds::Reason::NotSupported,
                format!("Unsupported value: {value:?}: supported values: \"All\""),
            ));
        }
        asked = true;
    }
    Ok(asked)
}

/// The whole body.
pub(crate) async fn read(mut body: Body) -> Result<Bytes, Failure> {
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

/// The body as JSON or YAML, as its media type says.
pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, Failure> {
    match media_type(headers) {
        // curl's default: Kubernetes takes it for JSON as well.
        "" | "application/json" | "application/x-www-form-urlencoded" => parse_json(body),
        "application/yaml" | "text/yaml" | "application/x-yaml" => serde_saphyr::from_slice(body)
            .map_err(|error| Failure::bad_request(format!("error parsing YAML: {error}"))),
        other => Err(Failure::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: application/json, application/yaml"
        ))),
    }
}

pub(crate) fn parse_json(body: &[u8]) -> Result<Value, Failure> {
    // Nesting beyond 128 levels is refused by the parser.
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("invalid character or end of JSON input: {error}")))
}

/// Reads an object as its kind: what doesn't fit is refused, what isn't known dropped and warned of.
pub(crate) fn typed(
    kind: &Kind,
    mut raw: Value,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Failure> {
    let cannot = |why: &str| {
        Failure::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            kind.kind, kind.version, kind.kind
        ))
    };
    let found = raw.as_object_mut().ok_or_else(|| cannot("it is not an object"))?;
    check_type(kind, found)?;
    let decoded = (kind.decode)(&raw).map_err(|error| cannot(&error.message))?;
    match validation {
        FieldValidation::Strict if !decoded.unknown.is_empty() => {
            Err(cannot(&strict_error(&decoded.unknown)))
        }
        FieldValidation::Warn => {
            warnings.extend(decoded.unknown.iter().map(|field| unknown_field(field)));
            Ok(decoded.object)
        }
        _ => Ok(decoded.object),
    }
}

/// What Kubernetes says of unknown fields that aren't tolerated.
pub(crate) fn strict_error(unknown: &[String]) -> String {
    let fields: Vec<_> = unknown.iter().map(|field| unknown_field(field)).collect();
    format!("strict decoding error: {}", fields.join(", "))
}

fn unknown_field(field: &str) -> String {
    format!("unknown field {field:?}")
}

/// The object's own words about its type must fit the path; where it says nothing, the path's count.
fn check_type(kind: &Kind, object: &mut serde_json::Map<String, Value>) -> Result<(), Failure> {
    let expected = api_version(kind);
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
            object.insert("kind".into(), kind.kind.into());
            Ok(())
        }
        Some(found) if found != kind.kind => Err(Failure::bad_request(format!(
            "{found} in version {:?} cannot be handled as a {}",
            kind.version, kind.kind
        ))),
        Some(_) => Ok(()),
    }
}
