//! OpenAPI v2 and v3 documents of the served kinds, JSON and protobuf.
//!
//! kubectl reads them to explain fields, to validate manifests before it sends them (before 1.27), to learn
//! whether the server knows `dryRun` and `fieldValidation`, and to find list keys for its patches.
//!
//! ```text
//! k8s-openapi's schemas ─► definitions ─┬─► v3: one document a group version ─► /openapi/v3/apis/apps/v1
//! kinds::all() ─► operations ───────────┴─► v2: one document ─► JSON, protobuf ─► /openapi/v2
//! ```
//!
//! Kinds that CustomResourceDefinitions make are `custom`: whoever asks brings those that there are now.
//!
//! Documents are made when they are asked for and not kept: they'd cost the server megabytes for a request
//! that clients make once and cache by the hash in [`v3_root`].

mod custom;
mod definitions;
mod gnostic;
mod gnostic_document;
mod operations;
mod types;
mod v2;
mod v3;

use kinds::Kind;

/// Kubernetes' version whose types these are, as in `v1.36.0`.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// The index at `/openapi/v3`: group versions and where their documents are. The hash in each address
/// changes with the document, so that what it leads to can be cached for ever.
pub fn v3_root(custom: &[Kind]) -> String {
    v3::root(custom)
}

/// The OpenAPI v3 document of one group version, by its path: `api/v1` or `apis/apps/v1`.
pub fn v3(path: &str, custom: &[Kind]) -> Option<String> {
    v3::document(path, custom)
}

/// The OpenAPI v2 document at `/openapi/v2`, as JSON.
pub fn v2_json(custom: &[Kind]) -> Vec<u8> {
    v2::document(custom).to_string().into_bytes()
}

/// The OpenAPI v2 document at `/openapi/v2`, as a gnostic `openapi.v2.Document`
/// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn v2_protobuf(custom: &[Kind]) -> Vec<u8> {
    gnostic_document::encode(&v2::document(custom))
}
