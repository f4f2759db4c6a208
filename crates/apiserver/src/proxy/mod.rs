//! `proxy` of pods, Services and nodes: HTTP requests passed on to what listens there, with everything below
//! `proxy/` as their path.
//!
//! ```text
//! client ══► server ── place: which address, which port ──► pod, an endpoint of the Service, or the node
//!               credentials and hop-by-hop headers stay here; upgraded connections pass byte for byte
//!          ◄── links in pages and redirects lead through the proxy again
//! ```

pub(crate) mod links;
mod place;
mod target;

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;

use self::links::Links;
use crate::path::ResourcePath;
use crate::reply::{self, AsItIs, Request, Response};
use crate::serve::Peer;
use crate::server::ApiServer;
use crate::status::Failure;
use crate::{metrics, tunnel};

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

/// What a backend says of who may read its answers is said of another server.
const CROSS_ORIGIN: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
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
    let links = Links {
        base: path.proxy_base(),
        backend: place.authority(),
        asked: asked(&request),
    };
    let has_body = *request.method() != Method::HEAD;
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let outgoing = outward(&mut request, &links, rest, upgrade.as_ref())?;
    let held = metrics::held(&request);
    let near = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let mut response = target::send(server, &place, outgoing.map(|()| request.into_body())).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let near = near.ok_or_else(|| Failure::internal("the backend upgraded what wasn't asked to be"))?;
        let far = hyper::upgrade::on(&mut response);
        tunnel::join(server, held, near, far);
        let (head, _) = response.into_parts();
        return Ok(Response::from_parts(head, reply::full("")));
    }
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    for name in CROSS_ORIGIN {
        head.headers.remove(name);
    }
    links.relocate(&mut head.headers);
    head.extensions.insert(AsItIs);
    let mut body = body.map_err(Into::into).boxed_unsync();
    if has_body {
        body = links.rewrite(&mut head, body);
    }
    Ok(Response::from_parts(head, body))
}

/// The server's name, as the client used it.
fn asked(request: &Request) -> Option<String> {
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let named = named.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    named.map(str::to_owned)
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

/// The head of the request as the backend gets it: the server's name in it is the one that the client used.
fn outward(
    request: &mut Request,
    links: &Links,
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
    let host = links.asked.as_ref().unwrap_or(&links.backend);
    headers.insert(
        header::HOST,
        HeaderValue::from_str(host).map_err(Failure::internal)?,
    );
    forwarded(&mut headers, request);
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

/// Says what the request was here, and whose.
fn forwarded(headers: &mut HeaderMap, request: &Request) {
    if let Ok(path) = HeaderValue::from_str(request.uri().path()) {
        headers.insert(HeaderName::from_static("x-forwarded-uri"), path);
    }
    let Some(Peer(peer)) = request.extensions().get() else {
        return;
    };
    let name = HeaderName::from_static("x-forwarded-for");
    let before = headers.get_all(&name).iter();
    let before = before.filter_map(|value| Some(value.to_str().ok()?.to_owned()));
    let all: Vec<String> = before.chain([peer.to_string()]).collect();
    if let Ok(all) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(name, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_the_connections_headers_stay_here() {
        let mut request = http::Request::get("/api/v1/nodes/n/proxy/a%2Fb/?a=1&b=%20")
            .header("authorization", "Bearer x")
            .header("connection", "close, X-Hop")
            .header("x-hop", "1")
            .header("te", "trailers")
            .header("impersonate-user", "jane")
            .header("cookie", "c")
            .header("host", "server")
            .header("x-forwarded-for", "192.0.2.1")
            .extension(Peer([192, 0, 2, 2].into()))
            .body(reply::full(""))
            .unwrap();
        let links = Links {
            base: "/api/v1/nodes/n/proxy".into(),
            backend: "10.0.0.1:80".into(),
            asked: asked(&request),
        };
        let outgoing = outward(&mut request, &links, "/a%2Fb/", None).unwrap();
        assert_eq!(outgoing.uri(), "/a%2Fb/?a=1&b=%20");
        let mut names: Vec<_> = outgoing.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "host", "x-forwarded-for", "x-forwarded-uri"]);
        let headers = outgoing.headers();
        assert_eq!(headers["host"], "server");
        assert_eq!(headers["x-forwarded-uri"], "/api/v1/nodes/n/proxy/a%2Fb/");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1, 192.0.2.2");
    }
}
