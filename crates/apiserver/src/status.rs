//! Refusals: Kubernetes' `Status` objects, worded as Kubernetes words them.

use http::StatusCode;
use kinds::{FieldError, Kind, Reason};
use serde_json::{Map, Value, json};

/// Why a request isn't done. Becomes the response's `Status`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) code: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Map<String, Value>,
    /// Where a list whose token is too old may go on, inconsistently.
    pub(crate) continuation: Option<String>,
}

/// What a refusal is about: the resource's name and group, as in `deployments` and `apps`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Subject<'a> {
    pub(crate) fn of(kind: &'a Kind, name: &'a str) -> Subject<'a> {
        Subject {
            group: kind.group(),
            resource: kind.plural(),
            name,
        }
    }
}

/// `deployments.apps`, or plain `pods` for the core group.
pub(crate) fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

impl Failure {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            code,
            reason,
            message: message.into(),
            details: Map::new(),
            continuation: None,
        }
    }

    fn about(mut self, subject: Subject<'_>) -> Failure {
        for (field, text) in [
            ("name", subject.name),
            ("group", subject.group),
            ("kind", subject.resource),
        ] {
            if !text.is_empty() {
                self.details.insert(field.into(), text.into());
            }
        }
        self
    }

    pub(crate) fn cause(mut self, reason: &str, message: &str, field: Option<&str>) -> Failure {
        let mut cause = json!({ "reason": reason, "message": message });
        if let Some(field) = field {
            cause["field"] = field.into();
        }
        if let Value::Array(causes) = self
            .details
            .entry("causes")
            .or_insert_with(|| Value::Array(Vec::new()))
        {
            causes.push(cause);
        }
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(subject: Subject<'_>, why: &str) -> Failure {
        let what = qualified(subject.resource, subject.group);
        let message = if subject.name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} {:?} is forbidden: {why}", subject.name)
        };
        Failure::new(StatusCode::FORBIDDEN, "Forbidden", message).about(subject)
    }

    pub(crate) fn terminating(subject: Subject<'_>, namespace: &str) -> Failure {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Failure::forbidden(subject, &why).cause(
            "NamespaceTerminating",
            &format!("namespace {namespace} is being terminated"),
            Some("metadata.namespace"),
        )
    }

    pub(crate) fn not_found(subject: Subject<'_>) -> Failure {
        let what = qualified(subject.resource, subject.group);
        let message = format!("{what} {:?} not found", subject.name);
        Failure::new(StatusCode::NOT_FOUND, "NotFound", message).about(subject)
    }

    /// The path leads nowhere.
    pub(crate) fn no_such_path() -> Failure {
        Failure::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(crate) fn method_not_allowed() -> Failure {
        Failure::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// No new objects of a kind whose definition is being deleted.
    pub(crate) fn definition_terminating() -> Failure {
        Failure::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "create not allowed while custom resource definition is terminating",
        )
    }

    pub(crate) fn already_exists(subject: Subject<'_>) -> Failure {
        let what = qualified(subject.resource, subject.group);
        let message = format!("{what} {:?} already exists", subject.name);
        Failure::new(StatusCode::CONFLICT, "AlreadyExists", message).about(subject)
    }

    /// Every random name that was tried is taken.
    pub(crate) fn no_name_left(subject: Subject<'_>) -> Failure {
        let mut failure = Failure::already_exists(subject);
        failure
            .message
            .push_str(", the server was not able to generate a unique name for the object");
        failure.details.insert("retryAfterSeconds".into(), 1.into());
        failure
    }

    pub(crate) fn too_many_requests() -> Failure {
        let mut failure = Failure::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "Too many requests, please try again later.",
        );
        failure.details.insert("retryAfterSeconds".into(), 1.into());
        failure
    }

    /// The client took too long.
    pub(crate) fn timeout() -> Failure {
        Failure::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            "Timeout: request did not complete within the allotted timeout",
        )
    }

    /// What was asked for isn't there now, and may be later.
    pub(crate) fn unavailable(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    pub(crate) fn conflict(subject: Subject<'_>, why: &str) -> Failure {
        let what = qualified(subject.resource, subject.group);
        let message = format!(
            "Operation cannot be fulfilled on {what} {:?}: {why}",
            subject.name
        );
        Failure::new(StatusCode::CONFLICT, "Conflict", message).about(subject)
    }

    /// Somebody changed the object since the caller read it.
    pub(crate) fn modified(subject: Subject<'_>) -> Failure {
        Failure::conflict(
            subject,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn invalid(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> Failure {
        let texts: Vec<_> = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect();
        let list = match &texts[..] {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {list}", qualified(kind, group));
        let subject = Subject {
            group,
            resource: kind,
            name,
        };
        let failure = Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(subject);
        errors.iter().fold(failure, |failure, error| {
            failure.cause(error.reason.as_str(), &error.message, Some(error.field.as_str()))
        })
    }

    /// One field of a request's options is wrong.
    pub(crate) fn invalid_option(options: &str, field: &str, reason: Reason, message: String) -> Failure {
        let error = FieldError {
            reason,
            field: field.to_owned(),
            message,
        };
        Failure::invalid(options, "meta.k8s.io", "", &[error])
    }

    pub(crate) fn unsupported_media_type(message: impl Into<String>) -> Failure {
        Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    pub(crate) fn not_acceptable() -> Failure {
        Failure::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            "only the following media types are accepted: application/json, \
             application/vnd.kubernetes.protobuf, \
             application/json;as=Table;v=v1;g=meta.k8s.io, \
             application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        )
    }

    pub(crate) fn too_large(limit: usize) -> Failure {
        Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// The revision is no longer in the log.
    pub(crate) fn expired(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::GONE, "Expired", message)
    }

    /// The revision hasn't happened yet.
    pub(crate) fn too_large_revision(requested: u64, current: u64) -> Failure {
        let message = format!("Too large resource version: {requested}, current: {current}");
        let mut failure = Failure::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Timeout: {message}"),
        )
        .cause("ResourceVersionTooLarge", "Too large resource version", None);
        failure.details.insert("retryAfterSeconds".into(), 1.into());
        failure
    }

    pub(crate) fn internal(why: impl std::fmt::Display) -> Failure {
        let message = format!("Internal error occurred: {why}");
        let text = why.to_string();
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message).cause("", &text, None)
    }

    /// The `Status` object.
    pub(crate) fn status(&self) -> Value {
        let mut metadata = json!({});
        if let Some(token) = &self.continuation {
            metadata["continue"] = token.as_str().into();
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "code": self.code.as_u16(),
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_empty() {
            status["details"] = Value::Object(self.details.clone());
        }
        status
    }
}

impl From<store::Error> for Failure {
    /// What is left once the caller has handled the outcomes it expects.
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Compacted { requested, compacted } => {
                Failure::expired(format!("too old resource version: {requested} ({compacted})"))
            }
            store::Error::Future { requested, current } => Failure::too_large_revision(requested, current),
            store::Error::Full => Failure::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "InsufficientStorage",
                "the API server's disk is full: nothing can be written until it has space; reading and watching go on",
            ),
            store::Error::TooLarge { limit, .. } => Failure::too_large(limit),
            store::Error::Closed => Failure::unavailable("the server is shutting down"),
            error => {
                tracing::error!(%error, "store");
                Failure::internal(error)
            }
        }
    }
}

/// The `Status` of something done, about one object.
pub(crate) fn success(subject: Subject<'_>, uid: Option<&str>) -> Value {
    let mut details = json!({ "name": subject.name, "kind": subject.resource });
    if !subject.group.is_empty() {
        details["group"] = subject.group.into();
    }
    if let Some(uid) = uid {
        details["uid"] = uid.into();
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
