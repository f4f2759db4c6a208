//! Server-side apply: `PATCH` with `application/apply-patch+yaml`.

use bytes::Bytes;
use http::StatusCode;
use patch::apply::{self, ApplyError, Managers};
use serde_json::Value;

use crate::call::Call;
use crate::document::Document;
use crate::input::{self, FieldValidation};
use crate::managed::{self, Writer};
use crate::object::{self, text};
use crate::reply::{Request, Response};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::update::{self, Change, Part, Target};
use crate::{create, resource};

pub(crate) const MEDIA_TYPE: &str = "application/apply-patch+yaml";
const OPTIONS: &str = "PatchOptions";

/// How often it is tried again when the object comes or goes at the same time.
const TRIES: usize = 8;

/// What somebody applies.
pub(crate) struct Configuration {
    pub(crate) object: Value,
    force: bool,
    pub(crate) warnings: Vec<String>,
}

impl Configuration {
    /// Reads the body and the parameters, and checks what needs no live object.
    pub(crate) async fn read(call: &Call, request: Request) -> Result<Configuration, Failure> {
        if call.query.get("fieldManager").is_none() {
            let error = managed::required("fieldManager", "is required for apply patch");
            return Err(Failure::invalid(OPTIONS, "meta.k8s.io", "", &[error]));
        }
        let validation = FieldValidation::parse(&call.query, OPTIONS)?;
        let body = input::read(request.into_body()).await?;
        let Document {
            value: object,
            duplicates,
            twice,
        } = Document::parse_yaml(&body)
            .map_err(|why| Failure::bad_request(format!("error decoding YAML: {why}")))?;
        if !object.is_object() {
            return Err(Failure::bad_request("error decoding YAML: it is not an object"));
        }
        let complaints = match twice.is_empty() {
            true => duplicates
                .iter()
                .map(|field| format!("key {field:?} already set in map"))
                .collect(),
            false => twice,
        };
        let warnings = validation.judge(complaints, |why| {
            let why = why.replace("strict decoding error", "error strict decoding YAML");
            Failure::bad_request(why)
        })?;
        Ok(Configuration {
            object,
            force: call.query.flag("force"),
            warnings,
        })
    }

    /// Checks that the configuration is one of the call's kind.
    fn check(&self, call: &Call) -> Result<(), Failure> {
        let (found, expected) = (text(&self.object, "/apiVersion"), call.kind.api_version());
        if found != expected {
            return Err(Failure::bad_request(format!(
                "Incorrect version specified in apply patch. Specified patch version: {found}, expected: {expected}"
            )));
        }
        match text(&self.object, "/kind") {
            kind if kind == call.kind.kind() => {}
            kind => {
                return Err(Failure::bad_request(format!(
                    "the kind in the data ({kind}) does not match the expected kind ({})",
                    call.kind.kind()
                )));
            }
        }
        if self.object["metadata"]
            .get("managedFields")
            .is_some_and(|fields| !fields.is_null())
        {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        update::check_name(call.name()?, call.namespace.as_deref(), &self.object)?;
        let decoded = call
            .kind
            .decode(&self.object)
            .map_err(|error| self.mistyped(call, &[error.message]))?;
        let shape = managed::shape(&call.kind);
        let unknown = decoded.unknown.iter().map(|path| {
            let path = apply::spell(shape, &self.object, path);
            format!("{path}: field not declared in schema")
        });
        match unknown.collect::<Vec<_>>() {
            unknown if unknown.is_empty() => Ok(()),
            unknown => Err(self.mistyped(call, &unknown)),
        }
    }

    /// The object that comes of it.
    fn apply(
        &self,
        call: &Call,
        writer: &Writer<'_>,
        live: Option<&Value>,
    ) -> Result<(Value, Managers), Failure> {
        let shape = managed::shape(&call.kind);
        let mut live = live.cloned();
        let managers = live.as_mut().map(managed::take).unwrap_or_default();
        let applied = writer
            .author(|author| apply::apply(shape, live.as_ref(), &self.object, managers, author, self.force));
        match applied {
            Ok(applied) => Ok((applied.object, applied.managers)),
            Err(ApplyError::Schema(mistakes)) => Err(self.mistyped(call, &mistakes)),
            Err(error @ ApplyError::Conflicts(_)) => Err(conflict(&error)),
        }
    }

    /// Kubernetes answers this mistake of a client with 500 and no reason; clients know it by its words.
    pub(crate) fn mistyped(&self, call: &Call, mistakes: &[String]) -> Failure {
        let (kind, group) = (&call.kind, call.kind.group());
        let what = match mistakes {
            [mistake] => mistake.clone(),
            mistakes => format!("errors:\n  {}", mistakes.join("\n  ")),
        };
        let message = format!(
            "failed to create typed patch object ({}/{}; {group}/{}, Kind={}): {what}",
            text(&self.object, "/metadata/namespace"),
            text(&self.object, "/metadata/name"),
            kind.version(),
            kind.kind()
        );
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }
}

fn conflict(error: &ApplyError) -> Failure {
    let failure = Failure::new(StatusCode::CONFLICT, "Conflict", error.to_string());
    let ApplyError::Conflicts(conflicts) = error else {
        return failure;
    };
    conflicts.iter().fold(failure, |failure, conflict| {
        let message = format!("conflict with {}", conflict.manager);
        failure.cause("FieldManagerConflict", &message, Some(&conflict.path))
    })
}

/// Answers an apply request.
pub(crate) async fn handle(
    server: &ApiServer,
    call: &Call,
    part: Part,
    request: Request,
) -> Result<Response, Failure> {
    let configuration = Configuration::read(call, request).await?;
    configuration.check(call)?;
    let target = resource::target(call, part)?;
    for _ in 0..TRIES {
        match change(server, call, target, &configuration).await {
            Err(failure) if failure.code == StatusCode::NOT_FOUND && part == Part::Main => {}
            outcome => return resource::reply_one(call, StatusCode::OK, outcome?, &configuration.warnings),
        }
        match create(server, call, &target.writer(), &configuration).await {
            Err(failure) if failure.reason == "AlreadyExists" => {}
            outcome => {
                return resource::reply_one(call, StatusCode::CREATED, outcome?, &configuration.warnings);
            }
        }
    }
    Err(Failure::modified(call.subject()))
}

/// Applies a configuration to what is there.
pub(crate) async fn change(
    server: &ApiServer,
    call: &Call,
    target: Target<'_>,
    configuration: &Configuration,
) -> Result<Bytes, Failure> {
    update::update(server, target, |current| {
        let (mut object, managers) = configuration.apply(call, &target.writer(), Some(current))?;
        insist(&configuration.object, &mut object);
        let object = input::typed(&call.kind, Document::plain(object))?.object;
        Ok(Change::Applied(object, managers))
    })
    .await
}

/// Only a resource version and a uid in the configuration are insisted on.
fn insist(configuration: &Value, object: &mut Value) {
    let metadata = object::metadata(object);
    for field in ["resourceVersion", "uid"] {
        match configuration["metadata"].get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
}

async fn create(
    server: &ApiServer,
    call: &Call,
    writer: &Writer<'_>,
    configuration: &Configuration,
) -> Result<Bytes, Failure> {
    create::check_named(server, call, &configuration.object)?;
    let (object, managers) = configuration.apply(call, writer, None)?;
    let mut object = input::typed(&call.kind, Document::plain(object))?.object;
    object::metadata(&mut object).insert("name".into(), call.name()?.into());
    create::create_applied(server, call, object, managers).await
}
