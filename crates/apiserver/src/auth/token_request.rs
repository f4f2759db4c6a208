//! `POST serviceaccounts/NAME/token`: a token for a ServiceAccount, as `kubectl create token` and kubelets ask.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use kinds::{FieldError, Reason};
use serde_json::{Value, json};

use super::claims::{Bound, Reference};
use super::restriction;
use super::tokens::Grant;
use crate::call::Call;
use crate::object::{self, list, text};
use crate::reply::{self, Request, Response};
use crate::resource;
use crate::server::ApiServer;
use crate::status::{Failure, Subject};

const KIND: &str = "TokenRequest";
const GROUP: &str = "authentication.k8s.io";
const API_VERSION: &str = "authentication.k8s.io/v1";
/// What a token lasts unless the request says otherwise.
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

pub(crate) async fn handle(server: &ApiServer, call: &Call, request: Request) -> Result<Response, Failure> {
    let question = resource::read(request, (API_VERSION, KIND)).await?;
    let answer = create(server, call, question, jiff::Timestamp::now())?;
    let mut response = reply::object(StatusCode::CREATED, call.accept.encoding, &answer)?;
    forbid_storing(response.headers_mut());
    Ok(response)
}

/// A secret is in it.
fn forbid_storing(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn create(
    server: &ApiServer,
    call: &Call,
    mut question: Value,
    now: jiff::Timestamp,
) -> Result<Value, Failure> {
    let tokens = server.tokens.as_ref();
    let tokens =
        tokens.ok_or_else(|| Failure::internal("the server has no key for service account tokens"))?;
    let (name, namespace) = (call.name()?, call.namespace.as_deref().unwrap_or_default());
    check_place(&question, name, namespace)?;
    let entry = server
        .store
        .get(&object::key(&call.kind, Some(namespace), name))?;
    let account = object::parse(&entry.ok_or_else(|| Failure::not_found(call.subject()))?.value)?;
    let uid = text(&account, "/metadata/uid");
    let asked = text(&question, "/metadata/uid");
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the token request ({asked}) does not match the UID of the service account ({uid})"
        );
        return Err(Failure::conflict(token_request(name), &why));
    }
    let audiences: Vec<String> = list(&question, "/spec/audiences")
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let audiences = if audiences.is_empty() {
        vec![tokens.issuer().to_owned()]
    } else {
        audiences
    };
    let seconds = question
        .pointer("/spec/expirationSeconds")
        .and_then(Value::as_i64);
    let seconds = lifetime(seconds)?;
    restriction::token(server, &call.identity, call.subject(), namespace, &question)?;
    let bound = bind(
        server,
        namespace,
        name,
        uid,
        question.pointer("/spec/boundObjectRef"),
    )?;
    let grant = Grant {
        bound,
        audiences: audiences.clone(),
        seconds,
    };
    let token = tokens.issue(grant, now).map_err(Failure::internal)?;
    question["kind"] = KIND.into();
    question["apiVersion"] = API_VERSION.into();
    let metadata = object::metadata(&mut question);
    metadata.insert("name".into(), name.into());
    metadata.insert("namespace".into(), namespace.into());
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), object::time_text(now).into());
    let spec = object::child(&mut question, "spec");
    spec.insert("audiences".into(), json!(audiences));
    spec.insert("expirationSeconds".into(), seconds.into());
    spec.entry("boundObjectRef").or_insert(Value::Null);
    let end = now + std::time::Duration::from_secs(seconds.unsigned_abs());
    question["status"] = json!({ "token": token, "expirationTimestamp": object::time_text(end) });
    Ok(question)
}

fn token_request(name: &str) -> Subject<'_> {
    Subject {
        group: GROUP,
        resource: KIND,
        name,
    }
}

/// The request's own words about where it belongs must fit its path.
fn check_place(question: &Value, name: &str, namespace: &str) -> Result<(), Failure> {
    for (field, expected, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
        let found = text(&question["metadata"], &format!("/{field}"));
        if !found.is_empty() && found != expected {
            let error = FieldError {
                reason: Reason::Invalid,
                field: format!("metadata.{field}"),
                message: format!(
                    "Invalid value: {found:?}: must match the service account {what} if specified"
                ),
            };
            return Err(Failure::invalid(KIND, GROUP, name, &[error]));
        }
    }
    Ok(())
}

fn lifetime(seconds: Option<i64>) -> Result<i64, Failure> {
    let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
    let why = match seconds {
        ..MIN_SECONDS => "may not specify a duration less than 10 minutes",
        MIN_SECONDS..=MAX_SECONDS => return Ok(seconds),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let error = FieldError {
        reason: Reason::Invalid,
        field: "spec.expirationSeconds".into(),
        message: format!("Invalid value: {seconds}: {why}"),
    };
    Err(Failure::invalid(KIND, GROUP, "", &[error]))
}

/// The objects that the token shall stand and fall with.
fn bind(
    server: &ApiServer,
    namespace: &str,
    account: &str,
    account_uid: &str,
    wanted: Option<&Value>,
) -> Result<Bound, Failure> {
    let mut bound = Bound {
        namespace: namespace.to_owned(),
        node: None,
        pod: None,
        secret: None,
        account: Reference {
            name: account.to_owned(),
            uid: account_uid.to_owned(),
        },
    };
    let Some(wanted) = wanted.filter(|wanted| wanted.is_object()) else {
        return Ok(bound);
    };
    let (kind, name) = (text(wanted, "/kind"), text(wanted, "/name"));
    let core = matches!(text(wanted, "/apiVersion"), "v1" | "");
    let (plural, place) = match kind {
        "Pod" if core => ("pods", Some(namespace)),
        "Secret" if core => ("secrets", Some(namespace)),
        "Node" if core => ("nodes", None),
        _ => {
            let version = text(wanted, "/apiVersion");
            return Err(Failure::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let object = server.find_core(plural, place, name)?;
    let reference = Reference {
        name: name.to_owned(),
        uid: text(&object, "/metadata/uid").to_owned(),
    };
    let uid = text(wanted, "/uid");
    if !uid.is_empty() && uid != reference.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        let subject = Subject {
            group: "",
            resource: kind,
            name,
        };
        return Err(Failure::conflict(subject, &why));
    }
    match kind {
        "Pod" => {
            if text(&object, "/spec/serviceAccountName") != account {
                return Err(Failure::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            bound.node = node_of(server, &object)?;
            bound.pod = Some(reference);
        }
        "Secret" => bound.secret = Some(reference),
        _ => bound.node = Some(reference),
    }
    Ok(bound)
}

/// The node that a pod runs on, for whoever looks into the token.
fn node_of(server: &ApiServer, pod: &Value) -> Result<Option<Reference>, Failure> {
    let name = text(pod, "/spec/nodeName");
    if name.is_empty() {
        return Ok(None);
    }
    let node = server.node(name)?;
    Ok(Some(Reference {
        name: name.to_owned(),
        uid: node.map_or_else(String::new, |node| text(&node, "/metadata/uid").to_owned()),
    }))
}

impl ApiServer {
    /// An object of the core group, which must be there.
    pub(super) fn find_core(
        &self,
        plural: &'static str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, Failure> {
        let kind = kinds::find("", "v1", plural).expect("the table has the core kinds");
        let entry = self.store.get(&object::key(kind, namespace, name))?;
        let entry = entry.ok_or_else(|| Failure::not_found(Subject::of(kind, name)))?;
        object::parse(&entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_bounds() {
        assert_eq!(lifetime(None), Ok(3600));
        assert_eq!(lifetime(Some(600)), Ok(600));
        assert_eq!(lifetime(Some(MAX_SECONDS)), Ok(MAX_SECONDS));
        assert_eq!(
            lifetime(Some(599)).unwrap_err().message,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"
        );
        assert!(lifetime(Some(MAX_SECONDS + 1)).is_err());
    }
}
