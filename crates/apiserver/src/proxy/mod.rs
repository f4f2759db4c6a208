//! `proxy` of pods, Services and nodes: HTTP requests passed on to what listens there, with everything below
//! `proxy/` as their path.
//!
//! ```text
//! client ══► server ── place: which address, which port ──► pod, an endpoint of the Service, or the node
//!               credentials and hop-by-hop headers stay here; upgraded connections pass byte for byte
//! ```

mod place;
mod target;

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;

use crate::path::ResourcePath;
use crate::reply::{self, AsItIs, Request, Response};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::tunnel;

pub(crate) use target::Insecure;

/// Headers that are about one connection and not about the request.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes a request on and its answer back.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    path: &ResourcePath,
    mut request: Request,
) -> Result<Response, Failure> {
    let rest = path.rest.as_deref().unwrap_or_default();
    if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(to_folder(&request));
    }
    let place = place::find(server, path)?;
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let outgoing = outward(&mut request, &place.authority(), rest, upgrade.as_ref())?;
    let near = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let mut response = target::send(server, &place, outgoing.map(|()| request.into_body())).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let near = near.ok_or_else(|| Failure::internal("the backend upgraded what wasn't asked to be"))?;
        let far = hyper::upgrade::on(&mut response);
        tunnel::join(server, near, far);
        let (head, _) = response.into_parts();
        return Ok(Response::from_parts(head, reply::full("")));
    }
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    relocate(&mut head.headers, path, &place.authority());
    head.extensions.insert(AsItIs);
    let body = body.map_err(Into::into).boxed_unsync();
    Ok(Response::from_parts(head, body))
}

/// Relative links need the slash at the end: clients come back with it.
fn to_folder(request: &Request) -> Response {
    let uri = request.uri();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut answer = reply::bytes(StatusCode::MOVED_PERMANENTLY, "text/plain", "");
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

/// The head of the request as the backend gets it.
fn outward(
    request: &mut Request,
    authority: &str,
    rest: &str,
    upgrade: Option<&HeaderValue>,
) -> Result<http::Request<()>, Failure> {
    let query = request.uri().query().map(|query| format!("?{query}"));
    let path = format!(
        "{}{}",
        if rest.is_empty() { "/" } else { rest },
        query.unwrap_or_default()
    );
    let path = PathAndQuery::try_from(path).map_err(|error| Failure::bad_request(error.to_string()))?;
    let mut headers = std::mem::take(request.headers_mut());
    remove_hop_by_hop(&mut headers);
    // What opens our door is nobody else's business.
    headers.remove(header::AUTHORIZATION);
    let asserted: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in asserted {
        headers.remove(name);
    }
    let host = HeaderValue::from_str(authority).map_err(Failure::internal)?;
    if let Some(original) = headers.insert(header::HOST, host) {
        headers.insert(HeaderName::from_static("x-forwarded-host"), original);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let mut outgoing = http::Request::new(());
    *outgoing.method_mut() = request.method().clone();
    *outgoing.uri_mut() = path.into();
    *outgoing.headers_mut() = headers;
    Ok(outgoing)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// A redirect to the backend itself leads through the proxy again.
fn relocate(headers: &mut HeaderMap, path: &ResourcePath, authority: &str) {
    let Some(location) = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
    else {
        return;
    };
    let own = match location.split_once("://") {
        Some((_, rest)) => match rest.strip_prefix(authority) {
            Some("") => "/",
            Some(path) if path.starts_with('/') => path,
            _ => return,
        },
        None if location.starts_with('/') && !location.starts_with("//") => location,
        None => return,
    };
    if let Ok(value) = HeaderValue::from_str(&format!("{}{own}", path.proxy_base())) {
        headers.insert(header::LOCATION, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> ResourcePath {
        ResourcePath {
            version: "v1".into(),
            namespace: Some("x".into()),
            resource: "pods".into(),
            name: Some("http:web:80".into()),
            ..ResourcePath::default()
        }
    }

    #[test]
    fn redirects_to_the_backend_come_back_through_the_proxy() {
        for (location, expected) in [
            ("/login", "/api/v1/namespaces/x/pods/http:web:80/proxy/login"),
            (
                "http://10.0.0.1:80/a?b",
                "/api/v1/namespaces/x/pods/http:web:80/proxy/a?b",
            ),
            (
                "http://10.0.0.1:80",
                "/api/v1/namespaces/x/pods/http:web:80/proxy/",
            ),
            ("http://10.0.0.1:8080/a", "http://10.0.0.1:8080/a"),
            ("https://example.org/", "https://example.org/"),
            ("//example.org/", "//example.org/"),
            ("next", "next"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, location.parse().unwrap());
            relocate(&mut headers, &path(), "10.0.0.1:80");
            assert_eq!(headers[header::LOCATION], expected);
        }
    }

    #[test]
    fn credentials_and_the_connections_headers_stay_here() {
        let mut request = http::Request::get("/ignored?a=1&b=%20")
            .header("authorization", "Bearer x")
            .header("connection", "close, X-Hop")
            .header("x-hop", "1")
            .header("te", "trailers")
            .header("impersonate-user", "jane")
            .header("cookie", "c")
            .header("host", "server")
            .body(reply::full(""))
            .unwrap();
        let outgoing = outward(&mut request, "10.0.0.1:80", "/a%2Fb/", None).unwrap();
        assert_eq!(outgoing.uri(), "/a%2Fb/?a=1&b=%20");
        let mut names: Vec<_> = outgoing.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "host", "x-forwarded-host"]);
        assert_eq!(outgoing.headers()["host"], "10.0.0.1:80");
    }
}
