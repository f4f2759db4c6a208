//! OpenAPI documents, kept until there are other kinds.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use kinds::Kind;

/// Which document.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    V2Json,
    V2Protobuf,
    V3Root,
}

/// The documents that were asked for.
#[derive(Debug, Default)]
pub(crate) struct OpenApi(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Which kinds they are about.
    edition: u64,
    documents: [Option<Bytes>; 3],
}

impl OpenApi {
    /// A document about the kinds of the table and these.
    pub(crate) fn get(&self, form: Form, edition: u64, custom: &[Kind]) -> Bytes {
        // Whoever else wants the same waits for it here.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.edition != edition {
            *kept = Kept {
                edition,
                ..Kept::default()
            };
        }
        let make = || match form {
            Form::V2Json => openapi::v2_json(custom).into(),
            Form::V2Protobuf => openapi::v2_protobuf(custom).into(),
            Form::V3Root => openapi::v3_root(custom).into(),
        };
        kept.documents[form as usize].get_or_insert_with(make).clone()
    }
}
