//! Lists: which revision, which objects, and in which portions.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use kinds::Reason;
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::object;
use crate::path::Query;
use crate::present::{self, ListMetadata};
use crate::selector::Selection;
use crate::server::ApiServer;
use crate::status::Failure;

/// How long a request waits for a revision that the store hasn't reached.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which revision a list may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// Now, but not before this revision.
    NotOlderThan(u64),
    Exactly(u64),
}

/// Where a list in portions goes on. The token is opaque to clients.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Token {
    /// The first portion's revision; none for an inconsistent continuation.
    #[serde(rename = "rv")]
    revision: Option<u64>,
    /// The last key sent, after the list's prefix.
    after: String,
}

impl Token {
    fn encode(&self) -> String {
        // Serialising two plain fields can't fail.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Token, Failure> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| {
                Failure::bad_request("continue key is not valid: it is not a token of this server")
            })
    }
}

/// What a list request asks for.
pub(crate) struct Plan {
    when: When,
    limit: usize,
    after: Option<String>,
}

impl Plan {
    pub(crate) fn parse(query: &Query) -> Result<Plan, Failure> {
        let limit = query.number::<usize>("limit")?.unwrap_or(0);
        let version = resource_version(query)?;
        let matching = query.get("resourceVersionMatch");
        if query.get("sendInitialEvents").is_some() {
            return Err(forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        if let Some(token) = query.get("continue") {
            if matching.is_some() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                return Err(forbidden("resourceVersionMatch", why));
            }
            if version.is_some_and(|version| version != 0) {
                return Err(Failure::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = Token::decode(token)?;
            return Ok(Plan {
                when: token.revision.map_or(When::Now, When::Exactly),
                limit,
                after: Some(token.after),
            });
        }
        Ok(Plan {
            when: when(version, matching, limit)?,
            limit,
            after: None,
        })
    }
}

fn forbidden(field: &str, why: &str) -> Failure {
    Failure::invalid_option(
        "ListOptions",
        field,
        Reason::Forbidden,
        format!("Forbidden: {why}"),
    )
}

/// Kubernetes' table of `resourceVersion` against `resourceVersionMatch`.
fn when(version: Option<u64>, matching: Option<&str>, limit: usize) -> Result<When, Failure> {
    let refuse = |why| Err(forbidden("resourceVersionMatch", why));
    match (matching, version) {
        (None, None | Some(0)) | (Some("NotOlderThan"), Some(0)) => Ok(When::Now),
        (None, Some(version)) if limit > 0 => Ok(When::Exactly(version)),
        (None | Some("NotOlderThan"), Some(version)) => Ok(When::NotOlderThan(version)),
        (Some("Exact"), Some(version)) if version > 0 => Ok(When::Exactly(version)),
        (Some("Exact"), Some(_)) => {
            refuse("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"")
        }
        (Some("Exact" | "NotOlderThan"), None) => {
            refuse("resourceVersionMatch is forbidden unless resourceVersion is provided")
        }
        (Some(other), _) => Err(Failure::invalid_option(
            "ListOptions",
            "resourceVersionMatch",
            Reason::NotSupported,
            format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""),
        )),
    }
}

/// The `resourceVersion` parameter.
pub(crate) fn resource_version(query: &Query) -> Result<Option<u64>, Failure> {
    let Some(text) = query.get("resourceVersion") else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        Failure::invalid_option(
            "ListOptions",
            "resourceVersion",
            Reason::Invalid,
            format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"),
        )
    })
}

/// Waits for a revision that a client has seen to be visible here.
pub(crate) async fn reach(server: &ApiServer, revision: u64) -> Result<(), Failure> {
    tokio::time::timeout(PATIENCE, server.store.reached(revision))
        .await
        .map_err(|_| Failure::too_large_revision(revision, server.store.revision()))
}

/// Answers a list request.
pub(crate) async fn list(server: &Arc<ApiServer>, call: &Call) -> Result<Bytes, Failure> {
    let selection = Selection::parse(&call.kind, &call.query)?;
    let (page, metadata) = page(server, call, &selection).await?;
    let objects = page.entries.iter().map(|entry| &entry.value);
    present::many(&call.kind, call.accept, &metadata, objects)
}

/// One portion of a list.
pub(crate) async fn page(
    server: &Arc<ApiServer>,
    call: &Call,
    selection: &Selection,
) -> Result<(store::Page, ListMetadata), Failure> {
    let plan = Plan::parse(&call.query)?;
    let revision = match plan.when {
        When::Now => None,
        When::NotOlderThan(revision) => {
            reach(server, revision).await?;
            None
        }
        When::Exactly(revision) => {
            reach(server, revision).await?;
            Some(revision)
        }
    };
    let prefix = object::prefix(&call.kind, call.namespace.as_deref());
    let (limit, after) = (plan.limit, plan.after.clone());
    let outcome = read(server, prefix.clone(), after, limit, revision, selection.clone()).await;
    let page = outcome.map_err(|error| match (&plan.after, error) {
        (Some(after), store::Error::Compacted { .. }) => stale(after),
        (None, error @ store::Error::Compacted { .. }) => {
            tracing::debug!(%error, "list");
            Failure::expired("The resourceVersion for the provided list is too old.")
        }
        (_, error) => error.into(),
    })?;
    let metadata = describe(&page, &prefix, limit, selection);
    Ok((page, metadata))
}

/// Reads off the event loop: a long list takes its time.
pub(crate) async fn read(
    server: &Arc<ApiServer>,
    prefix: String,
    after: Option<String>,
    limit: usize,
    revision: Option<u64>,
    selection: Selection,
) -> Result<store::Page, store::Error> {
    let server = server.clone();
    let read = move || {
        let after = after.map(|after| prefix.clone() + &after);
        let range = store::Range {
            prefix: &prefix,
            after: after.as_deref(),
            limit,
            revision,
        };
        server.store.list(&range, |object| selection.matches(object))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(page) => page,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(store::Error::Closed),
        },
    }
}

fn describe(page: &store::Page, prefix: &str, limit: usize, selection: &Selection) -> ListMetadata {
    let mut metadata = ListMetadata {
        revision: page.revision,
        ..ListMetadata::default()
    };
    if limit > 0
        && page.remaining > 0
        && let Some(last) = page.entries.last()
    {
        let token = Token {
            revision: Some(page.revision),
            after: last.key[prefix.len()..].to_owned(),
        };
        metadata.continuation = Some(token.encode());
        // How many of the rest are selected isn't known without reading them.
        metadata.remaining = selection.is_everything().then_some(page.remaining);
    }
    metadata
}

/// The token's revision is compacted. Whoever can live with a list that mixes revisions may go on.
fn stale(after: &str) -> Failure {
    let token = Token {
        revision: None,
        after: after.to_owned(),
    };
    let mut failure = Failure::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new \
         list without the continue parameter, or use the continue token in this response to retrieve the \
         remainder of the results. Continuing with the provided token results in an inconsistent list - \
         objects that were created, modified, or deleted between the time the first chunk was returned and \
         now may show up in the list.",
    );
    failure.continuation = Some(token.encode());
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_version_and_match_decide_when() {
        assert_eq!(when(None, None, 0), Ok(When::Now));
        assert_eq!(when(Some(0), None, 5), Ok(When::Now));
        assert_eq!(when(Some(7), None, 0), Ok(When::NotOlderThan(7)));
        assert_eq!(when(Some(7), None, 5), Ok(When::Exactly(7)));
        assert_eq!(when(Some(7), Some("NotOlderThan"), 5), Ok(When::NotOlderThan(7)));
        assert_eq!(when(Some(7), Some("Exact"), 0), Ok(When::Exactly(7)));
        assert!(when(Some(0), Some("Exact"), 0).is_err());
        assert!(when(None, Some("Exact"), 0).is_err());
        assert!(when(Some(1), Some("Newest"), 0).is_err());
    }

    #[test]
    fn a_token_survives_the_client_and_rubbish_is_refused() {
        let token = Token {
            revision: Some(3),
            after: "ns/name".into(),
        };
        assert_eq!(Token::decode(&token.encode()), Ok(token));
        assert_eq!(Token::decode("!!").unwrap_err().code, 400);
        assert_eq!(Token::decode("AAAA").unwrap_err().code, 400);
    }

    proptest::proptest! {
        #[test]
        fn no_options_panic(
            options in proptest::collection::vec(
                ("limit|continue|resourceVersion|resourceVersionMatch|sendInitialEvents", "[-a-zA-Z0-9%_]{0,12}"),
                0..5,
            ),
        ) {
            let text: Vec<_> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let query = Query::parse(Some(&text.join("&")));
            let _ = Plan::parse(&query);
            let _ = crate::input::dry_run(&query, "ListOptions");
        }

        #[test]
        fn a_token_is_read_as_it_was_written(revision: Option<u64>, after in "\\PC{0,20}") {
            let token = Token { revision, after };
            proptest::prop_assert_eq!(Token::decode(&token.encode()), Ok(token));
        }
    }
}
