//! What a token is taken for before its objects are looked up.

use std::sync::LazyLock;

use super::*;
use crate::auth::jws;

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let (signer, verifier) = jws::generate();
    Tokens {
        issuer: "https://kubernetes.default.svc".to_owned(),
        public_url: "https://192.0.2.1:6443".to_owned(),
        signer,
        verifier,
        verified: Mutex::default(),
    }
});

/// As somebody sends it, and as the claims of a token that is signed.
pub(crate) fn token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    assert_eq!(TOKENS.verifier.verify(text), None, "nobody but us signs");
    let Ok(claims) = serde_json::from_str::<serde_json::Value>(text) else {
        return;
    };
    let token = TOKENS.signer.sign(&claims).expect("claims are JSON");
    let Some(said) = TOKENS.claims(&token) else { return };
    let Said::Bound(claims) = &*said else { return };
    let now = jiff::Timestamp::UNIX_EPOCH;
    if TOKENS.check(claims, &[], now.as_second()).is_ok() {
        assert_eq!(claims.issuer, TOKENS.issuer);
        let uid = claims.bound.account.uid.clone();
        let found = |_: &Kind, _: Option<&str>, _: &str| {
            Some(Tombstone {
                uid: uid.clone(),
                deletion_timestamp: Some(now),
            })
        };
        let _ = check_objects(&claims.bound, found, now);
        identity_of(claims);
    }
}
