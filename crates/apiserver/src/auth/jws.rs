//! Signed tokens: JSON Web Signatures in their compact form, by ECDSA over P-256 (`ES256`).
//!
//! ```text
//! base64url({"alg":"ES256","kid":…}) . base64url(claims) . base64url(r ‖ s)
//! ```
//!
//! Which algorithm is used is ours to say, never the token's: one that names another is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::error::Error;

pub(super) const ALGORITHM: &str = "ES256";
/// An uncompressed point of P-256: a marker, then two coordinates.
const POINT: usize = 1 + 32 + 32;

/// The key that signs.
pub(super) struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

/// The keys that are believed.
pub(super) struct Verifier {
    keys: Vec<PublicKey>,
}

struct PublicKey {
    id: String,
    point: [u8; POINT],
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

fn refuse(what: &'static str, why: impl std::fmt::Display) -> Error {
    Error::Certificate {
        what,
        why: why.to_string(),
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// The key in PEM text (PKCS #8).
    pub(super) fn new(pem: &str) -> Result<Signer, Error> {
        const WHAT: &str = "signer of service account tokens";
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| refuse(WHAT, error))?;
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
                .map_err(|error| refuse(WHAT, format!("not an ECDSA key over P-256 ({error})")))?;
        let point = point(&pair).ok_or_else(|| refuse(WHAT, "its public half is no point of P-256"))?;
        Ok(Signer {
            id: key_id(&point),
            pair,
            random,
        })
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, String> {
        let header = json!({ "alg": ALGORITHM, "kid": self.id });
        let claims = serde_json::to_vec(claims).map_err(|error| error.to_string())?;
        let mut token = format!("{}.{}", encode(header.to_string()), encode(claims));
        let signature = self.pair.sign(&self.random, token.as_bytes());
        let signature = signature.map_err(|_| "the system has no random numbers".to_owned())?;
        token.push('.');
        token.push_str(&encode(signature));
        Ok(token)
    }
}

impl Verifier {
    /// The keys in PEM text, any number of them.
    pub(super) fn new(pem: &str) -> Result<Verifier, Error> {
        const WHAT: &str = "verification of service account tokens";
        let mut keys = Vec::new();
        for der in SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|error| refuse(WHAT, error))?;
            let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|error| refuse(WHAT, error))?;
            let point = info.subject_public_key.data.as_ref().try_into();
            let point = point.map_err(|_| refuse(WHAT, "only ECDSA keys over P-256 are supported"))?;
            keys.push(PublicKey {
                id: key_id(&point),
                point,
            });
        }
        if keys.is_empty() {
            return Err(refuse(WHAT, "the PEM text holds no public key"));
        }
        Ok(Verifier { keys })
    }

    /// The claims of a token that one of the keys signed, as JSON.
    pub(super) fn verify(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.alg != ALGORITHM {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let mut keys = self.keys.iter().filter(|key| match &header.kid {
            Some(id) => *id == key.id,
            None => true,
        });
        let good = keys.any(|key| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point)
                .verify(signed.as_bytes(), &signature)
                .is_ok()
        });
        if good {
            URL_SAFE_NO_PAD.decode(claims).ok()
        } else {
            None
        }
    }

    /// The keys as a JSON Web Key Set, for others who are shown our tokens.
    pub(super) fn key_set(&self) -> Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                let (x, y) = key.point[1..].split_at(32);
                json!({
                    "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": ALGORITHM,
                    "x": encode(x), "y": encode(y),
                })
            })
            .collect();
        json!({ "keys": keys })
    }
}

fn point(pair: &EcdsaKeyPair) -> Option<[u8; POINT]> {
    pair.public_key().as_ref().try_into().ok()
}

/// A key that was never anybody's, and its public half: for fuzzing.
pub(super) fn generate() -> (Signer, Verifier) {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
    let made = made.expect("the system has random numbers");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
    let pair = pair.expect("what was made is a key");
    let point = point(&pair).expect("its public half is a point");
    let id = key_id(&point);
    let keys = vec![PublicKey {
        id: id.clone(),
        point,
    }];
    (Signer { pair, random, id }, Verifier { keys })
}

/// A key's name: a digest of its public half, written as X.509 does.
fn key_id(point: &[u8; POINT]) -> String {
    // SEQUENCE { SEQUENCE { OID ecPublicKey, OID prime256v1 }, BIT STRING point }
    const PREFIX: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&PREFIX);
    context.update(point);
    encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (Signer, Verifier, String) {
        let dir = tempfile::tempdir().unwrap();
        let keys = pki::TokenKeys::load_or_create(dir.path()).unwrap();
        let verifier = Verifier::new(&keys.verification).unwrap();
        (Signer::new(&keys.signing).unwrap(), verifier, keys.verification)
    }

    #[test]
    fn what_was_signed_is_verified_and_nothing_else() {
        let (signer, verifier, _) = keys();
        let token = signer.sign(&json!({ "sub": "a" })).unwrap();
        assert_eq!(verifier.verify(&token).unwrap(), br#"{"sub":"a"}"#);
        let parts: Vec<_> = token.split('.').collect();
        let other = encode(r#"{"sub":"b"}"#);
        let forged = format!("{}.{other}.{}", parts[0], parts[2]);
        let none = format!("{}.{other}.", encode(r#"{"alg":"none"}"#));
        let hmac = format!("{}.{}.{}", encode(r#"{"alg":"HS256"}"#), parts[1], parts[2]);
        for bad in [
            forged.as_str(),
            &none,
            &hmac,
            "",
            "a.b",
            "a.b.c",
            "..",
            &token[1..],
        ] {
            assert_eq!(verifier.verify(bad), None, "{bad}");
        }
        assert_eq!(keys().1.verify(&token), None, "another cluster's key");
    }

    #[test]
    fn every_key_of_several_is_believed() {
        let (old, _, old_pem) = keys();
        let (new, _, new_pem) = keys();
        let both = Verifier::new(&(new_pem + &old_pem)).unwrap();
        for signer in [old, new] {
            let token = signer.sign(&json!({})).unwrap();
            assert!(both.verify(&token).is_some());
        }
        assert_eq!(both.key_set()["keys"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(Signer::new("").is_err());
        assert!(Verifier::new("no key at all").is_err());
    }

    static VERIFIER: std::sync::LazyLock<Verifier> = std::sync::LazyLock::new(|| keys().1);

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_verifier_panic(token in "[A-Za-z0-9_.-]{0,80}") {
            proptest::prop_assert!(VERIFIER.verify(&token).is_none());
        }
    }
}
