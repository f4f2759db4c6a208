//! ServiceAccount tokens: what they prove, as long as the objects that they are bound to are there.
//!
//! A token names its ServiceAccount, and maybe the pod, Secret or Node that it was issued for, each with its
//! uid. All of these are looked up at every use: a token dies with its pod at once, not when it expires. Only
//! the signature, which can't change, is remembered.

pub(crate) mod fuzz;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kinds::Kind;
use serde::Deserialize;

use super::claims::{Bound, Claims, Reference, SECRETS_ISSUER, SecretClaims};
use super::identity::{self, Identity};
use super::jws::{Signer, Verifier};
use super::token_secrets;
use crate::error::Error;
use crate::object;
use crate::server::ApiServer;

/// How long a token outlives the moment when an object that it is bound to should be gone.
const LEEWAY: i64 = 60;
/// How many signatures are remembered.
const REMEMBERED: usize = 2048;

/// How ServiceAccount tokens are made and checked.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// Who issues them, as a URL; also the audience of those that are for this server.
    pub issuer: String,
    /// Where clients reach this server, as a URL: the keys are found there.
    pub public_url: String,
    /// The key that signs, as PEM text (PKCS #8, ECDSA over P-256).
    pub signing_pem: String,
    /// The public keys that are believed, as PEM text.
    pub verification_pem: String,
}

/// Signs and checks tokens.
pub(crate) struct Tokens {
    issuer: String,
    public_url: String,
    signer: Signer,
    verifier: Verifier,
    /// Claims whose signature was good, by the token's digest.
    verified: Mutex<HashMap<[u8; 32], Arc<Said>>>,
}

/// What a token says, in one of its two forms.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Said {
    Bound(Claims),
    InSecret(SecretClaims),
}

/// A token that is good.
#[derive(Debug, PartialEq)]
pub(crate) struct Authenticated {
    pub(crate) identity: Identity,
    /// Which of the wanted audiences it is for.
    pub(crate) audiences: Vec<String>,
}

/// What a new token shall be bound to.
pub(super) struct Grant {
    pub(super) bound: Bound,
    pub(super) audiences: Vec<String>,
    pub(super) seconds: i64,
}

impl Tokens {
    pub(crate) fn new(config: &TokenConfig) -> Result<Tokens, Error> {
        Ok(Tokens {
            issuer: config.issuer.clone(),
            public_url: config.public_url.clone(),
            signer: Signer::new(&config.signing_pem)?,
            verifier: Verifier::new(&config.verification_pem)?,
            verified: Mutex::default(),
        })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public keys, as a JSON Web Key Set.
    pub(crate) fn key_set(&self) -> serde_json::Value {
        self.verifier.key_set()
    }

    /// Where the keys are, for whoever knows the issuer.
    pub(crate) fn open_id_configuration(&self) -> serde_json::Value {
        serde_json::json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.public_url),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [super::jws::ALGORITHM],
        })
    }

    pub(super) fn issue(&self, grant: Grant, now: jiff::Timestamp) -> Result<String, String> {
        let now = now.as_second();
        let bound = grant.bound;
        self.signer.sign(&Claims {
            subject: identity::account_user(&bound.namespace, &bound.account.name),
            audiences: grant.audiences,
            expires: now + grant.seconds,
            issued: now,
            not_before: now,
            issuer: self.issuer.clone(),
            id: uuid::Uuid::new_v4().to_string(),
            bound,
        })
    }

    /// Whom a token speaks for. `wanted` are the audiences of whoever was shown it; none means this server.
    pub(crate) fn authenticate(
        &self,
        server: &ApiServer,
        token: &str,
        wanted: &[String],
    ) -> Result<Authenticated, &'static str> {
        let said = self.claims(token).ok_or("invalid bearer token")?;
        let claims = match &*said {
            Said::Bound(claims) => claims,
            Said::InSecret(claims) => return self.authenticate_secret(server, token, claims, wanted),
        };
        let now = jiff::Timestamp::now();
        let audiences = self.check(claims, wanted, now.as_second())?;
        let look_up =
            |kind: &Kind, namespace: Option<&str>, name: &str| server.tombstone(kind, namespace, name);
        check_objects(&claims.bound, look_up, now)?;
        Ok(Authenticated {
            identity: identity_of(claims),
            audiences,
        })
    }

    /// A token in a Secret is good for as long as it is there, and its account.
    fn authenticate_secret(
        &self,
        server: &ApiServer,
        token: &str,
        claims: &SecretClaims,
        wanted: &[String],
    ) -> Result<Authenticated, &'static str> {
        if claims.issuer != SECRETS_ISSUER {
            return Err("invalid bearer token");
        }
        if !wanted.is_empty() && !wanted.contains(&self.issuer) {
            return Err("token audiences are invalid for the target audiences");
        }
        let secret = token_secrets::find(server, &claims.namespace, &claims.secret);
        if secret.is_none_or(|secret| token_secrets::token(&secret).as_deref() != Some(token.as_bytes())) {
            return Err("service account token has been invalidated");
        }
        let accounts = kinds::find("", "v1", "serviceaccounts").expect("the table has ServiceAccount");
        let account = server.tombstone(accounts, Some(&claims.namespace), &claims.account);
        if account.is_none_or(|account| account.uid != claims.account_uid) {
            return Err("service account has been deleted");
        }
        let mut identity = Identity::service_account(&claims.namespace, &claims.account);
        identity.uid.clone_from(&claims.account_uid);
        Ok(Authenticated {
            identity,
            audiences: vec![self.issuer.clone()],
        })
    }

    /// A token to be kept in a Secret.
    pub(super) fn issue_for_secret(
        &self,
        namespace: &str,
        secret: &str,
        account: Reference,
    ) -> Result<String, String> {
        self.signer.sign(&SecretClaims {
            issuer: SECRETS_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            subject: identity::account_user(namespace, &account.name),
            account: account.name,
            account_uid: account.uid,
        })
    }

    /// The claims of a token whose signature is good.
    fn claims(&self, token: &str) -> Option<Arc<Said>> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let digest: [u8; 32] = digest.as_ref().try_into().ok()?;
        // A map is whole at every point where a panic could leave it.
        let lock = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = lock().get(&digest) {
            return Some(claims.clone());
        }
        let claims = self.verifier.verify(token)?;
        let claims: Arc<Said> = Arc::new(serde_json::from_slice(&claims).ok()?);
        let mut verified = lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, claims.clone());
        Some(claims)
    }

    /// What can be checked without looking at objects; returns the audiences that token and server share.
    fn check(&self, claims: &Claims, wanted: &[String], now: i64) -> Result<Vec<String>, &'static str> {
        if claims.issuer != self.issuer {
            return Err("invalid bearer token");
        }
        if claims.expires <= now {
            return Err("service account token has expired");
        }
        if claims.not_before > now {
            return Err("service account token is not valid yet");
        }
        let own = std::slice::from_ref(&self.issuer);
        let wanted = if wanted.is_empty() { own } else { wanted };
        let shared: Vec<_> = wanted
            .iter()
            .filter(|audience| claims.audiences.contains(audience))
            .cloned()
            .collect();
        if shared.is_empty() {
            return Err("token audiences are invalid for the target audiences");
        }
        Ok(shared)
    }
}

/// What a token needs to know of an object: which one it is, and when it should be gone.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Tombstone {
    pub(crate) uid: String,
    pub(crate) deletion_timestamp: Option<jiff::Timestamp>,
}

impl ApiServer {
    /// An object's uid and end; `None` when there is no such object.
    fn tombstone(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Option<Tombstone> {
        #[derive(Deserialize)]
        struct Head {
            metadata: Tombstone,
        }
        let entry = self.store.get(&object::key(kind, namespace, name)).ok()??;
        let head: Head = serde_json::from_slice(&entry.value).ok()?;
        Some(head.metadata)
    }
}

/// Everything that the token is bound to must still be there.
fn check_objects(
    bound: &Bound,
    look_up: impl Fn(&Kind, Option<&str>, &str) -> Option<Tombstone>,
    now: jiff::Timestamp,
) -> Result<(), &'static str> {
    const INVALIDATED: &str = "service account token has been invalidated";
    let is_there = |resource: &str, namespace: Option<&str>, reference: &Reference| {
        let kind = kinds::find("", "v1", resource);
        let found = kind.and_then(|kind| look_up(kind, namespace, &reference.name));
        found.is_some_and(|found| {
            let lives = found
                .deletion_timestamp
                .is_none_or(|end| end.as_second() + LEEWAY >= now.as_second());
            lives && found.uid == reference.uid
        })
    };
    let namespace = Some(bound.namespace.as_str());
    if !is_there("serviceaccounts", namespace, &bound.account) {
        return Err("service account has been deleted");
    }
    if let Some(secret) = &bound.secret
        && !is_there("secrets", namespace, secret)
    {
        return Err(INVALIDATED);
    }
    match (&bound.pod, &bound.node) {
        // The node beside a pod only tells where the pod runs.
        (Some(pod), _) if !is_there("pods", namespace, pod) => Err(INVALIDATED),
        (None, Some(node)) if !is_there("nodes", None, node) => Err(INVALIDATED),
        _ => Ok(()),
    }
}

fn identity_of(claims: &Claims) -> Identity {
    const PREFIX: &str = "authentication.kubernetes.io";
    let bound = &claims.bound;
    let mut identity = Identity::service_account(&bound.namespace, &bound.account.name);
    identity.uid.clone_from(&bound.account.uid);
    let mut extra = BTreeMap::from([(
        format!("{PREFIX}/credential-id"),
        vec![format!("JTI={}", claims.id)],
    )]);
    for (what, reference) in [("node", &bound.node), ("pod", &bound.pod)] {
        let Some(reference) = reference else { continue };
        extra.insert(format!("{PREFIX}/{what}-name"), vec![reference.name.clone()]);
        if !reference.uid.is_empty() {
            extra.insert(format!("{PREFIX}/{what}-uid"), vec![reference.uid.clone()]);
        }
    }
    identity.extra = extra;
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let dir = tempfile::tempdir().unwrap();
        let keys = pki::TokenKeys::load_or_create(dir.path()).unwrap();
        Tokens::new(&TokenConfig {
            issuer: "https://here".into(),
            public_url: "https://there".into(),
            signing_pem: keys.signing,
            verification_pem: keys.verification,
        })
        .unwrap()
    }

    fn reference(name: &str) -> Reference {
        Reference {
            name: name.into(),
            uid: format!("{name}-uid"),
        }
    }

    fn bound() -> Bound {
        Bound {
            namespace: "ns".into(),
            node: None,
            pod: None,
            secret: None,
            account: reference("robot"),
        }
    }

    fn claims(tokens: &Tokens, at: i64) -> Claims {
        let grant = Grant {
            bound: bound(),
            audiences: vec!["https://here".into(), "vault".into()],
            seconds: 600,
        };
        let token = tokens
            .issue(grant, jiff::Timestamp::from_second(at).unwrap())
            .unwrap();
        assert_eq!(tokens.claims(&token), tokens.claims(&token), "remembered or not");
        match &*tokens.claims(&token).unwrap() {
            Said::Bound(claims) => claims.clone(),
            Said::InSecret(claims) => panic!("{claims:?}"),
        }
    }

    #[test]
    fn a_token_is_good_from_its_issue_to_its_end() {
        let tokens = tokens();
        let claims = claims(&tokens, 1000);
        assert!(tokens.check(&claims, &[], 1000).is_ok());
        assert!(tokens.check(&claims, &[], 1599).is_ok());
        let expired = Err("service account token has expired");
        assert_eq!(tokens.check(&claims, &[], 1600), expired);
        assert!(tokens.check(&claims, &[], 999).is_err());
    }

    #[test]
    fn a_token_is_for_its_audiences_alone() {
        let tokens = tokens();
        let claims = claims(&tokens, 1000);
        let shared = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|w| (*w).to_owned()).collect();
            tokens.check(&claims, &wanted, 1000)
        };
        assert_eq!(shared(&[]).unwrap(), ["https://here"]);
        assert_eq!(shared(&["other", "vault"]).unwrap(), ["vault"]);
        assert!(shared(&["other"]).is_err());
    }

    #[test]
    fn a_token_dies_with_what_it_is_bound_to() {
        let now = jiff::Timestamp::from_second(1000).unwrap();
        let check = |bound: &Bound, gone: &str, end: Option<i64>| {
            let look_up = |kind: &Kind, _: Option<&str>, name: &str| {
                let doomed = kind.plural() == gone;
                (!doomed || end.is_some()).then(|| Tombstone {
                    uid: format!("{name}-uid"),
                    deletion_timestamp: end
                        .filter(|_| doomed)
                        .map(|end| jiff::Timestamp::from_second(end).unwrap()),
                })
            };
            check_objects(bound, look_up, now).is_ok()
        };
        let mut to_pod = bound();
        to_pod.pod = Some(reference("p"));
        to_pod.node = Some(reference("n"));
        let mut to_secret = bound();
        to_secret.secret = Some(reference("s"));
        let mut to_node = bound();
        to_node.node = Some(reference("n"));
        for (bound, resource) in [
            (bound(), "serviceaccounts"),
            (to_pod.clone(), "pods"),
            (to_pod.clone(), "serviceaccounts"),
            (to_secret, "secrets"),
            (to_node, "nodes"),
        ] {
            assert!(check(&bound, "", None), "{resource}");
            assert!(!check(&bound, resource, None), "{resource}");
            // It is going, but has its last minute.
            assert!(check(&bound, resource, Some(1000 - LEEWAY)), "{resource}");
            assert!(!check(&bound, resource, Some(1000 - LEEWAY - 1)), "{resource}");
        }
        assert!(check(&to_pod, "nodes", None), "the pod's node is only told");
        to_pod.pod = Some(Reference {
            uid: "another".into(),
            ..reference("p")
        });
        assert!(!check(&to_pod, "", None), "another pod of that name");
    }

    #[test]
    fn an_identity_tells_where_its_token_comes_from() {
        let tokens = tokens();
        let mut claims = claims(&tokens, 1000);
        claims.bound.pod = Some(reference("p"));
        let identity = identity_of(&claims);
        assert_eq!(identity.user, "system:serviceaccount:ns:robot");
        assert_eq!(identity.uid, "robot-uid");
        assert!(identity.is_in("system:serviceaccounts:ns") && identity.is_in("system:authenticated"));
        assert_eq!(identity.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    }
}
