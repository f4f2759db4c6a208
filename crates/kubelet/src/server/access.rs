//! Who may do what: as Kubernetes' kubelet asks the API about it.
//!
//! A client without a certificate can bring a bearer token (TokenReview). Whoever isn't the API server or an
//! administrator needs the right (SubjectAccessReview) to a subresource of the node:
//!
//! | path | subresource of `nodes` |
//! | --- | --- |
//! | `/stats/…` | `stats` |
//! | `/metrics/…` | `metrics` |
//! | `/healthz` | `healthz` |
//! | `/logs/…` | `log` |
//! | `/pods` | `pods` |
//! | everything else | `proxy` |
//!
//! and to `proxy` where it has none to a finer one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::answer::Refusal;
use super::identity::Caller;
use crate::context::Context;

/// For how long an answer of the API holds.
const ALLOWED: Duration = Duration::from_secs(60);
const REFUSED: Duration = Duration::from_secs(10);
const TOKEN: Duration = Duration::from_secs(60);
/// Answers that are remembered.
const MEMORY: usize = 1024;

/// Answers of the API.
#[derive(Default)]
pub(crate) struct Answers(Mutex<State>);

#[derive(Default)]
struct State {
    /// By a token's digest.
    tokens: HashMap<[u8; 32], (Instant, Option<Caller>)>,
    rights: HashMap<Right, (Instant, bool)>,
}

/// Something that somebody may or may not do.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Right {
    user: String,
    groups: Vec<String>,
    verb: &'static str,
    subresource: &'static str,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A map is whole at every point where a panic could leave it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    verb: &'static str,
    subresource: &'static str,
    token: Option<String>,
}

impl Asked {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self {
            verb: verb(request.method()),
            subresource: subresource(request.uri().path()),
            token: bearer(request).map(str::to_owned),
        }
    }
}

/// Whether a request may be answered.
pub(super) async fn check(ctx: &Context, caller: &Caller, asked: Asked) -> Result<(), Refusal> {
    let by_token;
    let caller = match (caller.name(), &asked.token) {
        (None, Some(token)) => {
            by_token = whose(ctx, token).await?;
            &by_token
        }
        _ => caller,
    };
    let Some(name) = caller.name() else {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized: a client certificate of the cluster, or a bearer token, is required",
        ));
    };
    if caller.is_trusted() {
        return Ok(());
    }
    let (verb, fine, coarse) = (asked.verb, asked.subresource, "proxy");
    if may(ctx, caller, verb, fine).await? || (fine != coarse && may(ctx, caller, verb, coarse).await?) {
        return Ok(());
    }
    let message = format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource={fine})");
    Err(Refusal::new(StatusCode::FORBIDDEN, message))
}

fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

fn subresource(path: &str) -> &'static str {
    match path.trim_matches('/').split('/').next() {
        Some("stats") => "stats",
        Some("metrics") => "metrics",
        Some("healthz") => "healthz",
        Some("logs") => "log",
        Some("pods") => "pods",
        _ => "proxy",
    }
}

/// Whose token it is; nobody's if the API doesn't know it.
async fn whose(ctx: &Context, token: &str) -> Result<Caller, Refusal> {
    let digest: [u8; 32] = Sha256::digest(token).into();
    let known = ctx.access.lock().tokens.get(&digest).cloned();
    if let Some((until, caller)) = known
        && Instant::now() < until
    {
        return Ok(caller.unwrap_or_default());
    }
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.to_owned(),
            ..TokenReviewSpec::default()
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(ctx.client.clone());
    let answer = api
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| unknown(&error))?;
    let status = answer.status.filter(|status| status.authenticated == Some(true));
    let user = status.and_then(|status| status.user);
    let caller = user.and_then(|user| Some(Caller::named(user.username?, user.groups.unwrap_or_default())));
    let mut state = ctx.access.lock();
    let now = Instant::now();
    if state.tokens.len() >= MEMORY {
        state.tokens.retain(|_, (until, _)| now < *until);
    }
    if state.tokens.len() < MEMORY {
        let holds = if caller.is_some() { TOKEN } else { REFUSED };
        state.tokens.insert(digest, (now + holds, caller.clone()));
    }
    Ok(caller.unwrap_or_default())
}

async fn may(
    ctx: &Context,
    caller: &Caller,
    verb: &'static str,
    subresource: &'static str,
) -> Result<bool, Refusal> {
    let name = caller.name().unwrap_or_default().to_owned();
    let key = Right {
        user: name.clone(),
        groups: caller.groups().to_vec(),
        verb,
        subresource,
    };
    let known = ctx.access.lock().rights.get(&key).copied();
    if let Some((until, allowed)) = known
        && Instant::now() < until
    {
        return Ok(allowed);
    }
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(name),
            groups: Some(caller.groups().to_vec()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(ctx.config.node_name.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(ctx.client.clone());
    let answer = api
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| unknown(&error))?;
    let allowed = answer.status.is_some_and(|status| status.allowed);
    let mut state = ctx.access.lock();
    let now = Instant::now();
    if state.rights.len() >= MEMORY {
        state.rights.retain(|_, (until, _)| now < *until);
    }
    if state.rights.len() < MEMORY {
        let holds = if allowed { ALLOWED } else { REFUSED };
        state.rights.insert(key, (now + holds, allowed));
    }
    Ok(allowed)
}

fn unknown(error: &kube::Error) -> Refusal {
    Refusal::internal(format!("the API doesn't say who may use this kubelet: {error}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/stats/summary", "stats")]
    #[case("/metrics", "metrics")]
    #[case("/metrics/resource", "metrics")]
    #[case("/healthz", "healthz")]
    #[case("/pods", "pods")]
    #[case("/logs/a/b", "log")]
    #[case("/exec/a/b/c", "proxy")]
    #[case("/", "proxy")]
    fn each_path_is_a_subresource(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(subresource(path), expected);
    }

    #[rstest]
    #[case("Bearer abc", Some("abc"))]
    #[case("bearer  abc ", Some("abc"))]
    #[case("Basic abc", None)]
    #[case("Bearer ", None)]
    fn a_bearer_token_is_read(#[case] header: &str, #[case] expected: Option<&str>) {
        let request = Request::builder().header("authorization", header).body(());
        assert_eq!(bearer(&request.expect("a request")), expected);
    }
}
