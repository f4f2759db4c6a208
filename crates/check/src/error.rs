//! Why there is no report.

use std::time::Duration;

/// Why there is no report at all. Whatever the check itself finds is a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API refused, or didn't answer.
    #[error("can't {doing}: {source}; is the cluster up, and may this user do that?")]
    Api {
        /// What was tried.
        doing: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// The API takes the question and says nothing.
    #[error("the API doesn't answer within {0:?}; is the cluster up?")]
    NoAnswer(Duration),
    /// No node that could run a pod.
    #[error("no node is Ready{0}; `kubectl describe nodes` says why")]
    NoNodes(String),
    /// [`crate::Options::timeout`] has passed.
    #[error("not done within {0:?}; what was made has been cleaned up")]
    TimedOut(Duration),
    /// A signal.
    #[error("interrupted; what was made has been cleaned up")]
    Interrupted,
    /// The listener outside the cluster couldn't be started.
    #[error("can't listen on {address} for what comes out of the cluster: {source}")]
    Outside {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`: what was being done when the API failed.
    pub(crate) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Api {
            doing,
            source: Box::new(source),
        }
    }
}
