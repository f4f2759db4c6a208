//! OpenAPI v2 and v3 documents of the served kinds, JSON and protobuf.

/// The index at `/openapi/v3`: group versions and where their documents are.
pub fn v3_root() -> String {
    String::new()
}

/// The OpenAPI v3 document of one group version, by its path: `api/v1` or `apis/apps/v1`.
pub fn v3(_path: &str) -> Option<String> {
    None
}

/// The OpenAPI v2 document at `/openapi/v2`, as JSON.
pub fn v2_json() -> Vec<u8> {
    Vec::new()
}

/// The OpenAPI v2 document at `/openapi/v2`, as a gnostic `openapi.v2.Document`
/// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn v2_protobuf() -> Vec<u8> {
    Vec::new()
}
