//! The `scale` subresource: `autoscaling/v1` Scale, of any kind that says where its replicas are.

use http::StatusCode;
use kinds::Kind;
use serde_json::{Value, json};

use crate::apply::{self, Configuration};
use crate::call::Call;
use crate::input;
use crate::object::{self, list, text};
use crate::present;
use crate::reply::{self, Request, Response};
use crate::resource::{self, Patch};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::update::{self, Change, Part};

pub(crate) async fn handle(
    server: &ApiServer,
    call: &Call,
    verb: &str,
    request: Request,
) -> Result<Response, Failure> {
    let object = match verb {
        "get" => {
            let key = object::key(&call.kind, call.namespace.as_deref(), call.name()?);
            let entry = server.store.get(&key)?;
            entry.ok_or_else(|| Failure::not_found(call.subject()))?.value
        }
        "update" => {
            let wanted = resource::read(request, ("autoscaling/v1", "Scale")).await?;
            check_type(&wanted)?;
            update::check_name(call.name()?, call.namespace.as_deref(), &wanted)?;
            change(server, call, |_| Ok(wanted.clone())).await?
        }
        "patch" if input::media_type(request.headers()) == apply::MEDIA_TYPE => {
            let mut configuration = Configuration::read(call, request).await?;
            configuration.object = applied(call, &configuration)?;
            let target = resource::target(call, Part::Main)?;
            apply::change(server, call, target, &configuration).await?
        }
        "patch" => {
            let patch = Patch::read(call, request).await?;
            change(server, call, |scale| patch.apply(scale)).await?
        }
        _ => return Err(Failure::method_not_allowed()),
    };
    let scale = scale_of(&call.kind, &object::read(&call.kind, &object)?);
    let shown = present::scale(call.accept, scale)?;
    Ok(reply::encoded(StatusCode::OK, call.accept.encoding, shown))
}

async fn change(
    server: &ApiServer,
    call: &Call,
    change: impl Fn(&Value) -> Result<Value, Failure>,
) -> Result<bytes::Bytes, Failure> {
    let target = resource::target(call, Part::Main)?;
    update::update(server, target, |current| {
        let scale = change(&scale_of(&call.kind, current))?;
        let replicas = match scale.pointer("/spec/replicas") {
            // Kubernetes' field is left out when it is zero.
            None | Some(Value::Null) => 0.into(),
            Some(Value::Number(replicas)) if replicas.is_i64() => Value::Number(replicas.clone()),
            Some(other) => {
                return Err(Failure::bad_request(format!(
                    "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be an integer, not {other}"
                )));
            }
        };
        let mut wanted = current.clone();
        set(&mut wanted, &call.kind, replicas);
        let metadata = object::metadata(&mut wanted);
        match scale.pointer("/metadata/resourceVersion") {
            Some(version) if *version != current["metadata"]["resourceVersion"] => {
                metadata.insert("resourceVersion".into(), version.clone());
            }
            _ => {
                metadata.remove("resourceVersion");
            }
        }
        Ok(Change::To(wanted))
    })
    .await
}

/// What an applied Scale says of the object that it scales.
fn applied(call: &Call, configuration: &Configuration) -> Result<Value, Failure> {
    let scale = &configuration.object;
    if (text(scale, "/apiVersion"), text(scale, "/kind")) != ("autoscaling/v1", "Scale") {
        return Err(Failure::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {}, expected: autoscaling/v1",
            text(scale, "/apiVersion")
        )));
    }
    update::check_name(call.name()?, call.namespace.as_deref(), scale)?;
    let mut object = json!({ "metadata": { "name": call.name()? }, "spec": {} });
    for field in ["resourceVersion", "uid"] {
        object::assign(&mut object["metadata"], field, scale["metadata"].get(field));
    }
    match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => {}
        Some(Value::Number(replicas)) if replicas.is_i64() => {
            set(&mut object, &call.kind, replicas.clone().into());
        }
        Some(other) => {
            let mistake = format!(".spec.replicas: expected numeric (int or float), got {other}");
            return Err(configuration.mistyped(call, &[mistake]));
        }
    }
    Ok(object)
}

fn set(object: &mut Value, kind: &Kind, replicas: Value) {
    let Some(scale) = &kind.scale() else { return };
    if let Some(place) = object.pointer_mut(scale.spec_replicas) {
        *place = replicas;
    } else if let Some((parent, field)) = scale.spec_replicas.rsplit_once('/')
        && let Some(Value::Object(parent)) = object.pointer_mut(parent)
    {
        parent.insert(field.to_owned(), replicas);
    }
}

fn check_type(scale: &Value) -> Result<(), Failure> {
    match (text(scale, "/apiVersion"), text(scale, "/kind")) {
        ("autoscaling/v1" | "", "Scale" | "") => Ok(()),
        (version, kind) => Err(Failure::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a Scale"
        ))),
    }
}

/// An object's Scale.
fn scale_of(kind: &Kind, object: &Value) -> Value {
    let number = |pointer| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let (spec, status, selector) = match kind.scale() {
        Some(scale) => (
            number(scale.spec_replicas),
            number(scale.status_replicas),
            match object
                .pointer(scale.selector)
                .filter(|_| !scale.selector.is_empty())
            {
                Some(Value::String(selector)) => selector.clone(),
                selector => selector_text(selector.unwrap_or(&Value::Null)),
            },
        ),
        None => (0, 0, String::new()),
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        object::assign(&mut metadata, field, object["metadata"].get(field));
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": { "replicas": spec },
        "status": { "replicas": status, "selector": selector },
    })
}

/// A label selector object in the notation of queries; the selector of a ReplicationController is its labels.
fn selector_text(selector: &Value) -> String {
    let labels = [selector, &selector["matchLabels"]];
    let labels = labels.into_iter().filter_map(Value::as_object).flatten();
    let mut terms: Vec<_> = labels
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values: Vec<_> = list(expression, "/values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        terms.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort_unstable();
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_written_as_in_queries() {
        let selector = json!({
            "matchLabels": { "app": "web" },
            "matchExpressions": [
                { "key": "tier", "operator": "In", "values": ["b", "a"] },
                { "key": "old", "operator": "DoesNotExist" },
            ],
        });
        assert_eq!(selector_text(&selector), "!old,app=web,tier in (a,b)");
        assert_eq!(selector_text(&json!({ "app": "web" })), "app=web");
    }
}
