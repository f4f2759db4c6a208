//! What the server says about itself: whether it is well, what it is, and which paths it has.

use http::StatusCode;
use kinds::Kind;
use serde_json::{Value, json};

use crate::discovery;
use crate::path::Query;
use crate::reply::{self, Response};
use crate::status::Failure;

/// `/healthz`, `/livez` and `/readyz`: a server that answers is well. That is its one check, which can be asked by
/// itself (`/readyz/ping`), and is named for who wants to know more (`?verbose`).
pub(crate) fn health(what: &str, check: Option<&str>, query: Option<&str>) -> Result<Response, Failure> {
    const CHECK: &str = "ping";
    if check.is_some_and(|check| check != CHECK) {
        return Err(Failure::no_such_path());
    }
    let verbose = check.is_none() && Query::parse(query).flag("verbose");
    let text = if verbose {
        format!("[+]{CHECK} ok\n{what} check passed\n")
    } else {
        "ok".to_owned()
    };
    Ok(reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", text))
}

/// `/version`.
pub(crate) fn version() -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": "v1.36.0+ripstop",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{architecture}"),
    })
}

/// `/`: the paths that there are.
pub(crate) fn index(custom: &[Kind]) -> Value {
    let own = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/healthz/ping",
        "/livez",
        "/livez/ping",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/readyz/ping",
        "/version",
    ];
    let mut paths: Vec<_> = own.map(str::to_owned).into();
    paths.extend(discovery::paths(custom));
    paths.sort_unstable();
    json!({ "paths": paths })
}
