//! What a request for a log or a stream is made into.

use serde_json::json;

use super::*;
use crate::path::Query;

/// The request's query and headers, for a pod of two containers.
pub(crate) fn request(query: &Query, headers: &HeaderMap) {
    let pod = json!({"metadata": {"name": "web"}, "spec": {
        "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "c"}]}});
    let pods = kinds::find("", "v1", "pods").expect("the table has pods");
    let call = Call {
        name: Some("web".to_owned()),
        query: query.clone(),
        ..Call::of_server(pods, Some("default"))
    };
    let place = Place {
        pod,
        address: [192, 0, 2, 1].into(),
        port: PORT,
    };
    let send = |path: Result<String, Failure>| {
        let Ok(path) = path else { return };
        let request = outward(&place, http::Method::GET, &path, upgrade_headers(headers));
        let request = request.expect("whatever is asked for can be asked of a kubelet");
        assert!(
            !request.headers().contains_key(header::AUTHORIZATION),
            "credentials stay here"
        );
    };
    send(container(&place.pod, &call).and_then(|container| log_path(&call, &container)));
    for subresource in ["exec", "attach", "portforward"] {
        if check_upgrade(headers, subresource).is_ok() {
            send(stream_path(&place.pod, &call, subresource));
        }
    }
}
