//! What can go wrong in a controller.

use std::error::Error as _;

/// An error of the controllers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work.
    #[error("bad configuration: {0}")]
    Config(String),
    /// A request failed; the work is tried again later, with back-off.
    #[error("cannot {action}: {}", describe(.source))]
    Api {
        /// What the request was to do, such as `create a pod for default/web`.
        action: String,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// An object is not of the form that the API server should have seen to.
    #[error("{object} cannot be worked on: {reason}")]
    Object {
        /// The object, as `kind namespace/name`.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The server's own words where there are any: they name object and reason.
fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => match other.source() {
            Some(source) => format!("{other}: {source}"),
            None => other.to_string(),
        },
    }
}

impl Error {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// Somebody else wrote first; the next look at the cache shows it.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|s| s.reason == "Conflict")
    }

    /// The object is gone.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|s| s.reason == "NotFound")
    }

    /// The object is there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|s| s.reason == "AlreadyExists")
    }

    /// Nothing can be created in a namespace that is going away, and nothing needs to be.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|s| {
            s.reason == "Forbidden"
                && s.details.as_ref().is_some_and(|details| {
                    let mut causes = details.causes.iter();
                    causes.any(|cause| cause.reason == "NamespaceTerminating")
                })
        })
    }
}

/// Says what a request was for.
pub trait Doing<T> {
    /// Turns the client's error into ours; `action` completes "cannot …".
    ///
    /// # Errors
    /// The client's error, with its purpose.
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Api {
            action: action(),
            source: Box::new(source),
        })
    }
}

/// A missing object is what a deletion wanted.
pub(crate) fn ignore_missing<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
