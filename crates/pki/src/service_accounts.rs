//! The keys of ServiceAccount tokens: one that signs, and all that are still believed.
//!
//! `sa.key` signs. `sa.pub` holds the public halves of every key whose tokens are good, the signing
//! one first, each as one PEM block. To rotate, remove `sa.key`: the next start makes another one
//! and keeps the old public half, so that what was signed with it lasts until it expires. To stop
//! believing an old key, take its block out of `sa.pub`.

use std::path::Path;

use rcgen::KeyPair;

use crate::Error;
use crate::authority::generate_key;
use crate::files;

const NAME: &str = "sa";
const END: &str = "-----END PUBLIC KEY-----";

/// The keys of a cluster's ServiceAccount tokens, as PEM text.
#[derive(Clone)]
pub struct TokenKeys {
    /// The private key that signs (PKCS #8).
    pub signing: String,
    /// Public keys that are believed, one PEM block each; the signing key's comes first.
    pub verification: String,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys")
            .field("verification", &self.verification)
            .finish_non_exhaustive()
    }
}

impl TokenKeys {
    /// Loads `sa.key` and `sa.pub` from a directory, and makes what is missing.
    ///
    /// # Errors
    /// When the files cannot be read or written, or `sa.key` is there and unusable.
    pub fn load_or_create(dir: &Path) -> Result<Self, Error> {
        let key_path = files::key_path(dir, NAME);
        let key = match files::read_if_present(&key_path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| Error::BrokenTokenKey {
                path: key_path.clone(),
                reason: error.to_string(),
            })?,
            None => generate_key("service account tokens")?,
        };
        let keys_path = files::public_key_path(dir, NAME);
        let known = files::read_if_present(&keys_path)?.unwrap_or_default();
        let verification = with_first(&key.public_key_pem(), &known);
        // The public half goes first: no token is signed by a key that nobody would believe later.
        if verification != known {
            files::create_dir(dir)?;
            files::write_private(&keys_path, &verification)?;
        }
        let signing = key.serialize_pem();
        if !key_path.exists() {
            files::write_private(&key_path, &signing)?;
        }
        Ok(Self {
            signing,
            verification,
        })
    }
}

/// The known keys with this one in front, each once.
fn with_first(own: &str, known: &str) -> String {
    let own = normal(own);
    let others = known.split_inclusive(END).map(normal);
    let others = others.filter(|block| block.ends_with(&format!("{END}\n")) && *block != own);
    std::iter::once(own.clone()).chain(others).collect()
}

/// A PEM block with the line ends that we write.
fn normal(block: &str) -> String {
    let mut text: String = block.trim().lines().collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(keys: &TokenKeys) -> usize {
        keys.verification.matches(END).count()
    }

    #[test]
    fn keys_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = TokenKeys::load_or_create(&dir.path().join("pki")).unwrap();
        let again = TokenKeys::load_or_create(&dir.path().join("pki")).unwrap();
        assert_eq!(first.signing, again.signing);
        assert_eq!(first.verification, again.verification);
        assert_eq!(blocks(&first), 1);
    }

    #[test]
    fn a_removed_key_is_replaced_and_its_public_half_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = TokenKeys::load_or_create(dir.path()).unwrap();
        std::fs::remove_file(dir.path().join("sa.key")).unwrap();
        let second = TokenKeys::load_or_create(dir.path()).unwrap();
        assert_ne!(first.signing, second.signing);
        assert_eq!(blocks(&second), 2);
        assert!(second.verification.ends_with(&first.verification));
        assert!(!second.verification.starts_with(&first.verification));
    }

    #[test]
    fn a_key_without_its_public_half_gets_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = TokenKeys::load_or_create(dir.path()).unwrap();
        std::fs::write(dir.path().join("sa.pub"), "rubbish").unwrap();
        let second = TokenKeys::load_or_create(dir.path()).unwrap();
        assert_eq!(first.verification, second.verification);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sa.key"), "damaged").unwrap();
        let error = TokenKeys::load_or_create(dir.path()).unwrap_err();
        assert!(error.to_string().contains("sa.key"), "{error}");
    }
}
