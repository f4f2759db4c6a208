//! Requests for resources: from a path and a method to a call, and from there to whoever does it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use kinds::Kind;
use serde_json::Value;

use crate::auth::authorize::{self, Action};
use crate::auth::identity::Identity;
use crate::auth::{restriction, review, token_request};
use crate::call::Call;
use crate::delete::{self, Outcome};
use crate::document::Document;
use crate::input::{self, FieldValidation};
use crate::path::{Query, ResourcePath};
use crate::reply::{self, Request, Response};
use crate::selector::Selection;
use crate::server::ApiServer;
use crate::status::{self, Failure};
use crate::update::{Change, Part, Target};
use crate::{
    apply, create, kubelet, list, managed, negotiate, object, pods, present, proxy, scale, update, watch,
};

/// Kubernetes' name for what a method does to a path.
fn verb(method: &Method, path: &ResourcePath, query: &Query) -> Result<&'static str, Failure> {
    Ok(match (method, &path.name) {
        (&Method::GET, _) if path.subresource.is_none() && query.flag("watch") => "watch",
        (&Method::GET, Some(_)) => "get",
        (&Method::HEAD, Some(_)) if path.rest.is_some() => "get",
        // Kubernetes has no word for it either: only who may do everything may do this.
        (&Method::OPTIONS, Some(_)) if path.rest.is_some() => "",
        (&Method::GET, None) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, Some(_)) => "update",
        (&Method::PATCH, Some(_)) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        (&Method::DELETE, None) => "deletecollection",
        _ => return Err(Failure::method_not_allowed()),
    })
}

/// What Kubernetes calls the parameters of a verb.
fn options(verb: &str) -> &'static str {
    match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        "delete" | "deletecollection" => "DeleteOptions",
        _ => "ListOptions",
    }
}

/// What a request wants to do, as authorizers see it.
fn action<'a>(path: &'a ResourcePath, verb: &'static str, selected: Option<&'a Selection>) -> Action<'a> {
    let name = path
        .name
        .as_deref()
        .or_else(|| selected?.name())
        .unwrap_or_default();
    // A namespace lies in itself, so that rights in it are rights to it.
    let namespace = match (path.group.as_str(), path.resource.as_str(), &path.name) {
        ("", "namespaces", Some(name)) => name,
        _ => path.namespace.as_deref().unwrap_or_default(),
    };
    Action {
        verb,
        group: &path.group,
        resource: &path.resource,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        namespace,
        name,
        path: "",
        selected_node: selected
            .and_then(|it| it.field("spec.nodeName"))
            .unwrap_or_default(),
    }
}

fn is_stream(action: &Action<'_>) -> bool {
    (action.group, action.resource) == ("", "pods")
        && matches!(action.subresource, "exec" | "attach" | "portforward")
}

/// Answers a request for a resource.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    identity: Identity,
    path: ResourcePath,
    request: Request,
) -> Result<Response, Failure> {
    let query = Query::parse(request.uri().query());
    let verb = verb(request.method(), &path, &query)?;
    let kind = server.kind(&path.group, &path.version, &path.resource)?;
    let selected = kind.as_ref().and_then(|kind| Selection::parse(kind, &query).ok());
    let action = action(&path, verb, selected.as_ref());
    authorize::check(server, &identity, &action)?;
    if action.verb == "get" && is_stream(&action) {
        // A WebSocket begins with a GET, and does as much as a POST.
        let action = Action {
            verb: "create",
            ..action
        };
        authorize::check(server, &identity, &action)?;
    }
    // Given back when the answer begins: what streams on needs none.
    let _seat = server.limits.seat(&identity.user).await?;
    if path.rest.is_some() {
        return proxy::handle(server, &path, request).await;
    }
    let Some(kind) = kind else {
        return review::handle(server, &identity, &path, request).await;
    };
    // All namespaces at once are listed and watched; single objects live at one place only.
    let placed = path.namespace.is_some() == kind.namespaced();
    let everywhere = path.namespace.is_none() && path.name.is_none();
    if !placed && !everywhere {
        return Err(Failure::no_such_path());
    }
    let call = Call {
        identity,
        accept: negotiate::accept(request.headers(), &kind, &query)?,
        kind,
        namespace: path.namespace,
        name: path.name,
        subresource: path.subresource,
        dry_run: input::dry_run(&query, options(verb))?,
        manager: managed::manager(&query, request.headers(), options(verb))?,
        query,
    };
    if verb == "create" && call.kind.is_terminating() {
        return Err(Failure::definition_terminating());
    }
    let mut response = match call.subresource.as_deref() {
        None => object_call(server, &call, verb, request).await,
        Some(subresource) => subresource_call(server, &call, subresource, verb, request).await,
    }?;
    if let Some(warning) = call.kind.deprecation() {
        reply::warn(&mut response, &[warning.to_owned()]);
    }
    Ok(response)
}

async fn object_call(
    server: &Arc<ApiServer>,
    call: &Call,
    verb: &str,
    request: Request,
) -> Result<Response, Failure> {
    match verb {
        "get" => get(server, call).await,
        "list" => {
            let list = list::list(server, call).await?;
            Ok(reply::encoded(StatusCode::OK, call.accept.encoding, list))
        }
        "watch" => watch::watch(server, call).await,
        "create" if call.name.is_none() => post(server, call, request).await,
        "update" => put(server, call, Part::Main, request).await,
        "patch" => patch(server, call, Part::Main, request).await,
        "delete" => delete_one(server, call, request).await,
        "deletecollection" if !call.kind.is("", "namespaces") => delete_many(server, call, request).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

async fn subresource_call(
    server: &Arc<ApiServer>,
    call: &Call,
    subresource: &str,
    verb: &str,
    request: Request,
) -> Result<Response, Failure> {
    let kind = &call.kind;
    match (kind.plural(), subresource, verb) {
        (_, "status", "get") if kind.has_status() => get(server, call).await,
        (_, "status", "update") if kind.has_status() => put(server, call, Part::Status, request).await,
        (_, "status", "patch") if kind.has_status() => patch(server, call, Part::Status, request).await,
        (_, "scale", _) if kind.scale().is_some() => scale::handle(server, call, verb, request).await,
        ("namespaces", "finalize", "update") => finalize(server, call, request).await,
        ("serviceaccounts", "token", "create") => token_request::handle(server, call, request).await,
        ("pods", "binding", "create") => pods::bind(server, call, request).await,
        ("pods", "eviction", "create") => pods::evict(server, call, request).await,
        ("pods", "ephemeralcontainers", "get") => get(server, call).await,
        ("pods", "ephemeralcontainers", "update") => put(server, call, Part::Ephemeral, request).await,
        ("pods", "ephemeralcontainers", "patch") => patch(server, call, Part::Ephemeral, request).await,
        ("pods", "log", "get") => kubelet::log(server, call, request).await,
        ("pods", "exec" | "attach" | "portforward", "get" | "create") => {
            kubelet::stream(server, call, subresource, request).await
        }
        (_, "status", _) if kind.has_status() => Err(Failure::method_not_allowed()),
        ("namespaces", "finalize", _) | ("serviceaccounts", "token", _) => Err(Failure::method_not_allowed()),
        ("pods", _, _) if kind.subresources().contains(&subresource) => Err(Failure::method_not_allowed()),
        _ => Err(Failure::no_such_path()),
    }
}

async fn get(server: &ApiServer, call: &Call) -> Result<Response, Failure> {
    // What is there is newer than anything else that was asked for.
    list::reach(server, list::resource_version(&call.query)?.unwrap_or(0)).await?;
    let key = object::key(&call.kind, call.namespace.as_deref(), call.name()?);
    let entry = server.store.get(&key)?;
    let entry = entry.ok_or_else(|| Failure::not_found(call.subject()))?;
    reply_one(call, StatusCode::OK, entry.value, &[])
}

/// A response with one object in the form that the call wants.
pub(crate) fn reply_one(
    call: &Call,
    code: StatusCode,
    object: Bytes,
    warnings: &[String],
) -> Result<Response, Failure> {
    let object = present::one(&call.kind, call.accept, object)?;
    let mut response = reply::encoded(code, call.accept.encoding, object);
    reply::warn(&mut response, warnings);
    Ok(response)
}

async fn post(server: &ApiServer, call: &Call, request: Request) -> Result<Response, Failure> {
    let (object, warnings) = read_object(call, "CreateOptions", request).await?;
    let stored = create::create(server, call, object).await?;
    reply_one(call, StatusCode::CREATED, stored, &warnings)
}

async fn put(server: &ApiServer, call: &Call, part: Part, request: Request) -> Result<Response, Failure> {
    let (wanted, warnings) = read_object(call, "UpdateOptions", request).await?;
    update::check_name(call.name()?, call.namespace.as_deref(), &wanted)?;
    let outcome = update::update(server, target(call, part)?, |_| {
        update::check_version(&call.kind, &wanted)?;
        Ok(Change::To(wanted.clone()))
    });
    match outcome.await {
        Err(failure)
            if failure.code == StatusCode::NOT_FOUND
                && part == Part::Main
                && create::may_be_put(&call.kind) =>
        {
            let stored = create::put(server, call, wanted).await?;
            reply_one(call, StatusCode::CREATED, stored, &warnings)
        }
        outcome => reply_one(call, StatusCode::OK, outcome?, &warnings),
    }
}

/// The request's object, and what to warn of.
async fn read_object(call: &Call, options: &str, request: Request) -> Result<(Value, Vec<String>), Failure> {
    let validation = FieldValidation::parse(&call.query, options)?;
    let (head, body) = request.into_parts();
    let like = (call.kind.api_version(), call.kind.kind());
    let document = input::parse(&head.headers, &input::read(body).await?, (&like.0, like.1))?;
    let typed = input::typed(&call.kind, document)?;
    let refuse = |why: &str| input::unreadable(&call.kind, why);
    let warnings = validation.judge(typed.complaints, refuse)?;
    Ok((typed.object, warnings))
}

pub(crate) fn target(call: &Call, part: Part) -> Result<Target<'_>, Failure> {
    Ok(Target {
        kind: &call.kind,
        namespace: call.namespace.as_deref(),
        name: call.name()?,
        part,
        dry_run: call.dry_run,
        manager: &call.manager,
        subresource: call.subresource.as_deref().unwrap_or_default(),
        identity: &call.identity,
    })
}

async fn patch(server: &ApiServer, call: &Call, part: Part, request: Request) -> Result<Response, Failure> {
    if input::media_type(request.headers()) == apply::MEDIA_TYPE {
        return apply::handle(server, call, part, request).await;
    }
    let validation = FieldValidation::parse(&call.query, "PatchOptions")?;
    let patch = Patch::read(call, request).await?;
    let twice = validation.judge(patch.duplicates.clone(), |why| patch.refusal(why))?;
    let mut warnings = Vec::new();
    let stored = update::update(server, target(call, part)?, |current| {
        let patched = patch.apply(current)?;
        update::check_name(call.name()?, call.namespace.as_deref(), &patched)?;
        let typed = input::typed(&call.kind, Document::plain(patched))?;
        warnings = validation.judge(typed.complaints, |why| patch.refusal(why))?;
        warnings.extend(twice.clone());
        let mut wanted = typed.object;
        // Only a version that the patch itself brings is insisted on.
        if wanted["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"] {
            object::metadata(&mut wanted).remove("resourceVersion");
        }
        Ok(Change::To(wanted))
    })
    .await?;
    reply_one(call, StatusCode::OK, stored, &warnings)
}

/// Nothing is known of how custom objects merge strategically.
fn unknown_patch(kind: &Kind) -> Failure {
    let strategic = match kind.custom_schema() {
        None => "application/strategic-merge-patch+json, ",
        Some(_) => "",
    };
    Failure::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, {strategic}application/apply-patch+yaml"
    ))
}

/// A patch, of one of three types.
pub(crate) struct Patch {
    apply: fn(&Value, &Value) -> Result<Value, patch::PatchError>,
    document: Value,
    /// Fields that are there twice, in Kubernetes' words.
    duplicates: Vec<String>,
}

impl Patch {
    pub(crate) async fn read(call: &Call, request: Request) -> Result<Patch, Failure> {
        if call.query.get("force").is_some() {
            return Err(Failure::invalid_option(
                "PatchOptions",
                "force",
                kinds::Reason::Forbidden,
                "Forbidden: may not be specified for non-apply patch".to_owned(),
            ));
        }
        let (head, body) = request.into_parts();
        let apply: fn(&Value, &Value) -> _ = match input::media_type(&head.headers) {
            "application/json-patch+json" => patch::json,
            "application/merge-patch+json" => |object, patch| Ok(patch::merge(object, patch)),
            "application/strategic-merge-patch+json" if call.kind.custom_schema().is_none() => {
                patch::strategic
            }
            _ => return Err(unknown_patch(&call.kind)),
        };
        let document = input::parse_json(&input::read(body).await?)?;
        let duplicates = document.duplicates.iter();
        Ok(Patch {
            apply,
            duplicates: duplicates
                .map(|field| format!("duplicate field {field:?}"))
                .collect(),
            document: document.value,
        })
    }

    pub(crate) fn apply(&self, object: &Value) -> Result<Value, Failure> {
        (self.apply)(object, &self.document).map_err(|error| match error {
            patch::PatchError::Malformed(why) => Failure::bad_request(why),
            patch::PatchError::Unprocessable(why) => Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                format!("the server rejected our request due to an error in our request: {why}"),
            ),
        })
    }

    /// What Kubernetes says of a patch that sets unknown fields, when they aren't tolerated.
    fn refusal(&self, why: &str) -> Failure {
        let error = kinds::FieldError {
            reason: kinds::Reason::Invalid,
            field: "patch".into(),
            message: format!("Invalid value: {:?}: {why}", self.document.to_string()),
        };
        Failure::invalid("", "", "", &[error])
    }
}

/// The request's body, whatever it is written in; `like` is the API version and kind that it should have.
pub(crate) async fn read(request: Request, like: (&str, &str)) -> Result<Value, Failure> {
    let (head, body) = request.into_parts();
    Ok(input::parse(&head.headers, &input::read(body).await?, like)?.value)
}

/// A deletion's options: the body may be missing.
async fn delete_options(call: &Call, request: Request) -> Result<delete::Options, Failure> {
    let (head, body) = request.into_parts();
    let body = input::read(body).await?;
    let options = if body.is_empty() {
        Value::Null
    } else {
        input::parse(&head.headers, &body, ("v1", "DeleteOptions"))?.value
    };
    delete::Options::from_body(&options)?.or_query(&call.query)
}

async fn delete_one(server: &ApiServer, call: &Call, request: Request) -> Result<Response, Failure> {
    let options = delete_options(call, request).await?;
    let (namespace, name) = (call.namespace.as_deref(), call.name()?);
    if call.kind.is("", "pods") {
        let namespace = namespace.unwrap_or_default();
        restriction::remove_pod(server, &call.identity, call.subject(), namespace, "delete")?;
    }
    match delete::delete(server, &call.kind, namespace, name, &options).await? {
        // Kubernetes answers with the object for these kinds, with a status for the others.
        Outcome::Gone(object) if !matches!(call.kind.plural(), "pods" | "namespaces") => {
            let object = object::parse(&object)?;
            let uid = object::text(&object, "/metadata/uid");
            let status = status::success(call.subject(), Some(uid));
            reply::object(StatusCode::OK, call.accept.encoding, &status)
        }
        outcome => reply_one(call, StatusCode::OK, outcome.into_bytes(), &[]),
    }
}

async fn delete_many(server: &Arc<ApiServer>, call: &Call, request: Request) -> Result<Response, Failure> {
    if call.kind.namespaced() && call.namespace.is_none() {
        return Err(Failure::method_not_allowed());
    }
    let options = delete_options(call, request).await?;
    let selection = Selection::parse(&call.kind, &call.query)?;
    let (page, metadata) = list::page(server, call, &selection).await?;
    let mut deleted = Vec::with_capacity(page.entries.len());
    for entry in page.entries {
        let name = entry.key.rsplit('/').next().unwrap_or_default();
        let namespace = call.namespace.as_deref();
        match delete::delete(server, &call.kind, namespace, name, &options).await {
            Ok(outcome) => deleted.push(outcome.into_bytes()),
            // Somebody else deleted it meanwhile.
            Err(failure) if failure.code == StatusCode::NOT_FOUND => {}
            Err(failure) => return Err(failure),
        }
    }
    let list = present::many(&call.kind, call.accept, &metadata, deleted.iter())?;
    Ok(reply::encoded(StatusCode::OK, call.accept.encoding, list))
}

/// The namespace controller's last word: `spec.finalizers` of a namespace, and nothing else.
async fn finalize(server: &ApiServer, call: &Call, request: Request) -> Result<Response, Failure> {
    let raw = read(request, ("v1", "Namespace")).await?;
    let wanted = input::typed(&call.kind, Document::plain(raw))?.object;
    update::check_name(call.name()?, None, &wanted)?;
    let stored = update::update(server, target(call, Part::Server)?, |current| {
        let mut object = current.clone();
        let metadata = object::metadata(&mut object);
        match wanted["metadata"].get("resourceVersion") {
            Some(version) => metadata.insert("resourceVersion".into(), version.clone()),
            None => metadata.remove("resourceVersion"),
        };
        object::child(&mut object, "spec");
        object::assign(
            &mut object["spec"],
            "finalizers",
            wanted.pointer("/spec/finalizers"),
        );
        Ok(Change::To(object))
    })
    .await?;
    reply_one(call, StatusCode::OK, stored, &[])
}

/// The `Status` that creating a subresource such as a binding answers with.
pub(crate) fn created(call: &Call) -> Result<Response, Failure> {
    let status = status::success(call.subject(), None);
    reply::object(StatusCode::CREATED, call.accept.encoding, &status)
}
