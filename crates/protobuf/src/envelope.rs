//! The envelope that says what is in it: four bytes, then `runtime.Unknown` with the type and the object.

use serde_json::Value;

use crate::decode::{Decoder, malformed};
use crate::error::Error;
use crate::messages::WatchEvent;
use crate::scalars;
use crate::table;
use crate::wire::{self, Item, Reader};

const MAGIC: &[u8] = b"k8s\0";
/// Bytes of the length before a watch event, the most significant one first.
const LENGTH: usize = 4;

/// Decodes an object or a list, with its `apiVersion` and `kind`.
///
/// `like` is the API version and the kind that count where the bytes don't say any, as where a path implies
/// them.
pub fn decode(bytes: &[u8], like: Option<(&str, &str)>) -> Result<Value, Error> {
    open(&mut Decoder::default(), bytes, like)
}

/// Encodes an object or a list; its own `apiVersion` and `kind` say what it is.
pub fn encode(object: &Value) -> Result<Vec<u8>, Error> {
    let text = |field| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let root = find(api_version, kind)?;
    Ok(close(api_version, kind, &crate::encode::root(root, object)?))
}

/// A watch event with its length before it; `object` is what [`encode`] made.
pub fn event(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::bytes(1, object, &mut raw);
    let mut frame = vec![0; LENGTH];
    wire::bytes(1, kind.as_bytes(), &mut frame);
    wire::bytes(2, &raw, &mut frame);
    // An event is as long as an object, which requests limit to some megabytes.
    let length = u32::try_from(frame.len() - LENGTH).unwrap_or(u32::MAX);
    frame[..LENGTH].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Takes the next watch event, as `type` and `object`, off a stream's bytes; `None` while it isn't complete.
pub fn decode_event(stream: &mut &[u8]) -> Result<Option<Value>, Error> {
    let Some((length, rest)) = stream.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let Some((bytes, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    *stream = rest;
    let mut event = serde_json::Map::new();
    Decoder::default().message(&WatchEvent, bytes, &mut event)?;
    Ok(Some(Value::Object(event)))
}

pub(crate) fn is_enveloped(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Opens an envelope and decodes what is in it.
pub(crate) fn open(decoder: &mut Decoder, bytes: &[u8], like: Option<(&str, &str)>) -> Result<Value, Error> {
    let bytes = bytes.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let malformed = |why| malformed("Unknown", "", why);
    let (mut type_meta, mut raw) = (&[][..], &[][..]);
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next().map_err(malformed)? {
        match (number, item) {
            (1, Item::Bytes(bytes)) => type_meta = bytes,
            (2, Item::Bytes(bytes)) => raw = bytes,
            (3, Item::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(malformed("the content has an encoding, which nothing uses"));
            }
            (1..=3, Item::Varint(_) | Item::Other) => {
                return Err(malformed("the field has another wire type"));
            }
            _ => {}
        }
    }
    let (like_version, like_kind) = like.unwrap_or_default();
    let text = |field, like: &str| -> Result<String, Error> {
        let bytes = scalars::last(type_meta, field).map_err(malformed)?;
        let text = str::from_utf8(bytes).map_err(|_| malformed("a text isn't UTF-8"))?;
        Ok(if text.is_empty() { like } else { text }.to_owned())
    };
    let (api_version, kind) = (text(1, like_version)?, text(2, like_kind)?);
    let mut object = decoder.root(find(&api_version, &kind)?, raw)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

/// Puts an object into its envelope.
pub(crate) fn close(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    wire::bytes(1, api_version.as_bytes(), &mut type_meta);
    wire::bytes(2, kind.as_bytes(), &mut type_meta);
    let mut out = Vec::with_capacity(MAGIC.len() + type_meta.len() + raw.len() + 16);
    out.extend_from_slice(MAGIC);
    wire::bytes(1, &type_meta, &mut out);
    wire::bytes(2, raw, &mut out);
    // No encoding and no content type, which the original writes as well.
    wire::bytes(3, b"", &mut out);
    wire::bytes(4, b"", &mut out);
    out
}

fn find(api_version: &str, kind: &str) -> Result<table::Root, Error> {
    if api_version.is_empty() || kind.is_empty() {
        return Err(Error::Untyped);
    }
    table::find(api_version, kind).ok_or_else(|| Error::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })
}
