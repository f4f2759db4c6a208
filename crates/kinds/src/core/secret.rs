//! Secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::columns::{self, column};
use crate::core::config_validation;
use crate::decode;
use crate::entry::Entry;
use crate::json::{entries, set_default, set_default_text, text};
use crate::kind::{DecodeError, Decoded};

pub(crate) const KIND: Entry = Entry {
    decode: decode_secret,
    default: |secret| set_default_text(secret, "type", "Opaque"),
    rules: config_validation::secret,
    columns: &[
        columns::NAME,
        column(
            "Type",
            "string",
            "Used to facilitate programmatic handling of secret data.",
        ),
        column("Data", "string", "The number of keys that hold data."),
        columns::AGE,
    ],
    row: |secret, now| {
        vec![
            columns::name(secret),
            text(secret, "/type").into(),
            entries(secret, "/data").count().into(),
            columns::age(secret, now),
        ]
    },
    fields: &[("type", |secret| text(secret, "/type").to_owned())],
    ..Entry::namespaced::<Secret>("secret")
};

/// `stringData` is for writing only: it goes into `data`, over what is there, and is never shown.
fn decode_secret(raw: &Value) -> Result<Decoded, DecodeError> {
    let mut decoded = decode::typed::<Secret>(raw)?;
    let secret = &mut decoded.object;
    let texts = secret
        .as_object_mut()
        .and_then(|secret| secret.remove("stringData"));
    if let Some(Value::Object(texts)) = texts {
        set_default(secret, "data", json!({}));
        for (key, value) in texts {
            secret["data"][key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
        }
    }
    Ok(decoded)
}
