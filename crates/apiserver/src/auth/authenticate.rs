//! Who sent a request: a certificate's subject, a token's ServiceAccount, or nobody known; and on whose behalf.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;

use super::authorize::{self, Action};
use super::identity::{self, ANONYMOUS, AUTHENTICATED, Identity, UNAUTHENTICATED};
use crate::server::ApiServer;
use crate::status::Failure;

/// Whom a request speaks for. `connection` is who opened the connection, if anybody is known.
pub(crate) fn authenticate(
    server: &ApiServer,
    connection: Option<Identity>,
    headers: &HeaderMap,
) -> Result<Identity, Failure> {
    let sender = match (connection, bearer_token(headers)) {
        (Some(identity), _) => identity,
        (None, Some(token)) => by_token(server, token)?,
        (None, None) => Identity::anonymous(),
    };
    impersonate(server, sender, headers)
}

pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn by_token(server: &ApiServer, token: &str) -> Result<Identity, Failure> {
    let tokens = server.tokens.as_ref().ok_or_else(Failure::unauthorized)?;
    match tokens.authenticate(server, token, &[]) {
        Ok(authenticated) => Ok(authenticated.identity),
        Err(why) => {
            tracing::debug!(why, "a token is refused");
            Err(Failure::unauthorized())
        }
    }
}

/// What the headers ask to be taken for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Wanted<'a> {
    user: &'a str,
    uid: &'a str,
    groups: Vec<&'a str>,
    extra: Vec<(String, &'a str)>,
}

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA: &str = "impersonate-extra-";

impl<'a> Wanted<'a> {
    pub(crate) fn read(headers: &'a HeaderMap) -> Result<Wanted<'a>, Failure> {
        let text = |value: &'a HeaderValue| {
            std::str::from_utf8(value.as_bytes())
                .map_err(|_| Failure::bad_request("an impersonation header is not UTF-8"))
        };
        let first = |name| {
            headers
                .get(name)
                .map(text)
                .transpose()
                .map(Option::unwrap_or_default)
        };
        let mut wanted = Wanted {
            user: first(USER)?,
            uid: first(UID)?,
            groups: headers
                .get_all(GROUP)
                .iter()
                .map(text)
                .collect::<Result<_, _>>()?,
            extra: Vec::new(),
        };
        for (name, value) in headers {
            if let Some(key) = name.as_str().strip_prefix(EXTRA) {
                let decoded = percent_decode_str(key).decode_utf8();
                let key = decoded.map_or_else(|_| key.to_owned(), std::borrow::Cow::into_owned);
                wanted.extra.push((key, text(value)?));
            }
        }
        let more = !wanted.uid.is_empty() || !wanted.groups.is_empty() || !wanted.extra.is_empty();
        if more && wanted.user.is_empty() {
            return Err(Failure::bad_request(
                "requested groups, extra fields or a uid without impersonating a user",
            ));
        }
        Ok(wanted)
    }
}

/// Takes the sender for somebody else, where it asks for that and may.
fn impersonate(server: &ApiServer, sender: Identity, headers: &HeaderMap) -> Result<Identity, Failure> {
    let wanted = Wanted::read(headers)?;
    if wanted.user.is_empty() {
        return Ok(sender);
    }
    let check = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let action = Action {
            verb: "impersonate",
            group,
            resource,
            subresource,
            namespace,
            name,
            ..Action::default()
        };
        authorize::check(server, &sender, &action)
    };
    let account = identity::account_of(wanted.user);
    match account {
        Some((namespace, name)) => check("", "serviceaccounts", "", namespace, name)?,
        None => check("", "users", "", "", wanted.user)?,
    }
    for group in &wanted.groups {
        check("", "groups", "", "", group)?;
    }
    for (key, value) in &wanted.extra {
        check("authentication.k8s.io", "userextras", key, "", value)?;
    }
    if !wanted.uid.is_empty() {
        check("authentication.k8s.io", "uids", "", "", wanted.uid)?;
    }
    let taken = taken_for(&wanted);
    tracing::debug!(sender = sender.user, user = taken.user, "impersonation");
    Ok(taken)
}

fn taken_for(wanted: &Wanted<'_>) -> Identity {
    let mut groups: Vec<String> = wanted.groups.iter().map(|group| (*group).to_owned()).collect();
    if let (true, Some((namespace, _))) = (groups.is_empty(), identity::account_of(wanted.user)) {
        groups.extend(identity::account_groups(namespace));
    }
    let is_in = |groups: &[String], name: &str| groups.iter().any(|group| group == name);
    if wanted.user == ANONYMOUS {
        if !is_in(&groups, UNAUTHENTICATED) {
            groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !is_in(&groups, AUTHENTICATED) && !is_in(&groups, UNAUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let mut identity = Identity {
        user: wanted.user.to_owned(),
        uid: wanted.uid.to_owned(),
        groups,
        ..Identity::default()
    };
    for (key, value) in &wanted.extra {
        let values = identity.extra.entry(key.clone()).or_default();
        values.push((*value).to_owned());
    }
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            let name: HeaderName = name;
            let value: HeaderValue = value;
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_found_however_it_is_spelled() {
        assert_eq!(
            bearer_token(&headers(&[("authorization", "bearer  a.b.c ")])),
            Some("a.b.c")
        );
        for other in ["Basic eDp5", "Bearer", "Bearer ", ""] {
            assert_eq!(
                bearer_token(&headers(&[("authorization", other)])),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn everything_that_a_user_is_can_be_asked_for() {
        let headers = headers(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.com%2fscope", "x"),
            ("impersonate-extra-example.com%2fscope", "y"),
        ]);
        let identity = taken_for(&Wanted::read(&headers).unwrap());
        assert_eq!((identity.user.as_str(), identity.uid.as_str()), ("jane", "7"));
        assert_eq!(identity.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(identity.extra["example.com/scope"], ["x", "y"]);
    }

    #[test]
    fn groups_go_with_a_user() {
        for name in ["impersonate-group", "impersonate-uid", "impersonate-extra-x"] {
            assert_eq!(
                Wanted::read(&headers(&[(name, "a")])).unwrap_err().code,
                400,
                "{name}"
            );
        }
    }

    #[test]
    fn an_account_and_nobody_have_groups_of_their_own() {
        let of = |user| {
            let headers = headers(&[("impersonate-user", user)]);
            taken_for(&Wanted::read(&headers).unwrap()).groups
        };
        assert_eq!(
            of("system:serviceaccount:ns:robot"),
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        assert_eq!(of("system:anonymous"), ["system:unauthenticated"]);
    }
}
