//! Responses.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use crate::negotiate::Encoding;
use crate::present;
use crate::status::Failure;

/// Errors of bodies, whoever makes them.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's or response's body.
pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;
/// A request.
pub(crate) type Request = http::Request<Body>;
/// A response.
pub(crate) type Response = http::Response<Body>;

/// Marks a response that somebody else made: nothing is done to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsItIs;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A response of any type.
pub(crate) fn bytes(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// JSON that is serialised already.
pub(crate) fn json_bytes(code: StatusCode, json: impl Into<Bytes>) -> Response {
    bytes(code, "application/json", json)
}

/// An object that is serialised already.
pub(crate) fn encoded(code: StatusCode, encoding: Encoding, object: Bytes) -> Response {
    match encoding {
        Encoding::Json => json_bytes(code, object),
        Encoding::Protobuf => bytes(code, protobuf::MEDIA_TYPE, object),
    }
}

/// An object that isn't stored.
pub(crate) fn object(code: StatusCode, encoding: Encoding, object: &Value) -> Result<Response, Failure> {
    Ok(encoded(code, encoding, present::encode(encoding, object)?))
}

/// A JSON value.
pub(crate) fn json(code: StatusCode, value: &Value) -> Response {
    json_bytes(code, value.to_string())
}

/// A refusal. There is always a way to tell it: JSON.
pub(crate) fn failure(encoding: Encoding, failure: &Failure) -> Response {
    let status = failure.status();
    let mut response =
        object(failure.code, encoding, &status).unwrap_or_else(|_| json(failure.code, &status));
    let retry = failure.details.get("retryAfterSeconds").and_then(Value::as_u64);
    if let Some(seconds) = retry {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Adds `Warning` headers, as kubectl prints them.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        let printable: String = quoted.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{printable}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
