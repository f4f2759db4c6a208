//! What of a request is read before anything is done about it.

use http::Request;

use super::access::Asked;
use super::query::Query;
use super::stream::{self, Ends};
use super::{log, parts};

/// A request's head: method and target, then a header a line.
pub(crate) fn request(head: &str) {
    let mut lines = head.lines();
    let (method, target) = lines
        .next()
        .unwrap_or_default()
        .split_once(' ')
        .unwrap_or_default();
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        if let Some((name, value)) = line.split_once(": ") {
            request = request.header(name, value);
        }
    }
    // What HTTP doesn't allow doesn't come this far.
    let Ok(request) = request.body(()) else { return };
    Asked::of(&request);
    let path = parts(request.uri().path());
    let query = Query::parse(request.uri().query());
    match path.first().map(String::as_str) {
        Some("containerLogs") => _ = log::options(&query),
        Some("exec" | "attach") => _ = Ends::of(&query),
        Some("portForward") => _ = stream::ports(&query),
        _ => {}
    }
}
