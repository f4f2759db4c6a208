//! What can be wrong with bytes and objects.

/// Why something can't be translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes aren't Kubernetes' protobuf at all: the client sent something else under its name.
    #[error("not Kubernetes protobuf: it doesn't begin with the bytes 6b 38 73 00")]
    Magic,
    /// The bytes aren't what their message must look like: the client's encoder is at fault.
    #[error("{place}: {why}")]
    Malformed {
        /// Message and field, as in `PodSpec.containers`.
        place: String,
        /// What is wrong there.
        why: &'static str,
    },
    /// Nothing says what the object is: its sender must set `apiVersion` and `kind`.
    #[error("the object has no apiVersion and kind")]
    Untyped,
    /// The kind has no protobuf form here: send and accept it as JSON.
    #[error("no kind {kind:?} in version {api_version:?} is known as protobuf")]
    UnknownKind {
        /// As in `apps/v1`.
        api_version: String,
        /// As in `Deployment`.
        kind: String,
    },
    /// There is more in the bytes than an object of their size may hold, or deeper.
    #[error("the object has too many or too deeply nested values")]
    TooComplex,
    /// An object's field isn't of its type.
    #[error("{place} must be {expected}")]
    Type {
        /// Message and field, as in `PodSpec.containers`.
        place: String,
        /// What it should be.
        expected: &'static str,
    },
}
