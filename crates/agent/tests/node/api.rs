//! An API that holds nothing, for tests of what doesn't depend on its objects.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::json;

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// Lists are empty, and watches tell of nothing.
pub(crate) fn empty() -> kube::Client {
    let service = tower::service_fn(|request: Request<Body>| async move {
        let query = request.uri().query().unwrap_or_default();
        let body: Answer = if query.contains("watch=true") {
            let silence = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            StreamBody::new(silence).boxed_unsync()
        } else {
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []});
            Full::new(Bytes::from(list.to_string())).boxed_unsync()
        };
        Ok::<_, Infallible>(Response::new(body))
    });
    kube::Client::new(service, "default")
}
