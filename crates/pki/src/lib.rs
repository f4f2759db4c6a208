//! The cluster's certificate authority: generated once, issues server and client certificates.
//!
//! ```text
//! Authority::load_or_create(dir) ──► ca.crt, ca.key                       (10 years)
//!        │
//!        ├─ ensure_server(dir, name, subject, sans) ──► name.crt, name.key (1 year)
//!        └─ ensure_client(dir, name, subject)       ──► name.crt, name.key (1 year)
//!
//! TokenKeys::load_or_create(dir) ──► sa.key, sa.pub                      (until removed)
//! ```
//!
//! Identity in Kubernetes is what a client certificate's subject says: the common name is the
//! user, the organisation the user's group (`system:masters`, `system:nodes`). A [`Subject`] is that.
//!
//! `ensure_*` are idempotent: a pair on disk is kept while it is still what would be issued now
//! (same authority, subject, alternative names and usage, and more than 30 days left), so callers
//! ask for what they need at every start and never think about renewal.
//!
//! Keys are ECDSA P-256. Files are written atomically with mode 0600; the key goes first, and a
//! pair whose halves do not belong together (a crash between the two) counts as absent.

mod authority;
mod error;
mod files;
mod inspect;
mod service_accounts;
mod trusting;

pub use authority::{Authority, Subject};
pub use error::Error;
pub use files::KeyPairPem;
pub use service_accounts::TokenKeys;
pub use trusting::trusting;
