//! Ways into this crate for fuzzing (crate `fuzz-targets`): what a request's bytes go through before anything is
//! done about them.

use http::{HeaderMap, HeaderValue, header};
use kinds::Kind;
use serde_json::Value;

use crate::auth::authenticate::{self, Wanted};
use crate::auth::tokens;
use crate::delete;
use crate::document::Document;
use crate::path::{Query, Route};
use crate::selector::Selection;
use crate::{apply, input, kubelet, list, managed, negotiate, object, proxy, watch};

/// Seconds since the epoch: rows show ages.
const NOW: i64 = 1_767_225_600;

/// An object in JSON or YAML, from its bytes to what would be stored; or a list of a new and an old one.
pub fn object(body: &[u8]) {
    let documents = [input::parse_json(body).ok(), Document::parse_yaml(body).ok()];
    for mut document in documents.into_iter().flatten() {
        let (new, old) = match std::mem::take(&mut document.value) {
            Value::Array(mut list) if list.len() == 2 => (list.swap_remove(0), list.pop()),
            value => (value, None),
        };
        let text = |field| new.get(field).and_then(Value::as_str).unwrap_or_default();
        let Some(kind) = of_type(text("apiVersion"), text("kind")) else {
            continue;
        };
        let document = Document {
            value: new,
            ..document
        };
        let old = old.and_then(|old| read(kind, Document::plain(old)));
        if let Some(new) = read(kind, document) {
            check(kind, new, old.as_ref());
        }
    }
}

fn of_type(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    kinds::find_kind(group, version, kind)
}

/// Reads an object and completes it.
fn read(kind: &Kind, document: Document) -> Option<Value> {
    let mut object = input::typed(kind, document).ok()?.object;
    kind.default(&mut object);
    let mut again = object.clone();
    kind.default(&mut again);
    assert_eq!(again, object, "defaults are complete the first time");
    Some(object)
}

fn check(kind: &Kind, mut new: Value, old: Option<&Value>) {
    kind.prepare(&mut new, old);
    let errors = kind.validate(&new, old);
    kind.validate(&new, Some(&new));
    kind.row(&new, NOW);
    for (_, field) in kind.fields() {
        field.text(&new);
    }
    if let Some(old) = old {
        kind.is_new_generation(&new, old);
    }
    managed::take(&mut new);
    let stored = object::encode(kind, new.clone());
    // What is wrong in itself isn't stored, and needn't be the same then.
    if errors.is_empty() && old.is_none() {
        let bytes: bytes::Bytes = stored.at(7);
        let read = object::read(kind, &bytes).expect("what was stored can be read");
        assert_eq!(read["spec"], new["spec"], "what is stored is what was checked");
        if protobuf::knows(&kind.api_version(), kind.kind()) {
            let bytes = protobuf::encode(&new).expect("every kind of the table has its messages");
            let again = protobuf::decode(&bytes, None).expect("what was written can be read");
            let again = self::read(kind, Document::plain(again));
            assert_eq!(again.as_ref(), Some(&new), "protobuf says what JSON does");
        }
    }
}

/// A request's head: the path with its query, then a header a line.
pub fn request(head: &[u8]) {
    let Ok(text) = str::from_utf8(head) else { return };
    let mut lines = text.lines();
    let target = lines.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = Query::parse(Some(query));
    let mut headers = HeaderMap::new();
    for line in lines {
        if let Some((name, value)) = line.split_once(": ")
            && let (Ok(name), Ok(value)) = (
                name.parse::<header::HeaderName>(),
                HeaderValue::from_bytes(value.as_bytes()),
            )
        {
            headers.append(name, value);
        }
    }
    let kind = match Route::parse(path) {
        Route::Resource(path) => kinds::find(&path.group, &path.version, &path.resource),
        _ => None,
    };
    let kind = kind.unwrap_or_else(|| kinds::find("", "v1", "pods").expect("the table has pods"));
    parameters(kind, &query, &headers);
    authenticate::bearer_token(&headers);
    let _ = Wanted::read(&headers);
    kubelet::fuzz::request(&query, &headers);
}

/// A page of a proxied backend, or a link.
pub fn page(bytes: &[u8]) {
    proxy::links::fuzz::page(bytes);
}

/// A bearer token: these bytes, and a token whose claims they are.
pub fn token(bytes: &[u8]) {
    tokens::fuzz::token(bytes);
}

fn parameters(kind: &Kind, query: &Query, headers: &HeaderMap) {
    if let Ok(selection) = Selection::parse(kind, query) {
        let object = br#"{"metadata":{"name":"a","namespace":"b","labels":{"app":"web","n":"7"}},"spec":{}}"#;
        selection.matches(object);
    }
    let _ = list::Plan::parse(query);
    let _ = watch::Plan::parse(query);
    let _ = delete::Options::default().or_query(query);
    let _ = input::FieldValidation::parse(query, "ListOptions");
    let _ = managed::manager(query, headers, "ListOptions");
    let _ = negotiate::accept(headers, kind, query);
    let _ = negotiate::discovery(headers);
    negotiate::wants_openapi_protobuf(headers);
    let _ = apply::MEDIA_TYPE == input::media_type(headers);
}
