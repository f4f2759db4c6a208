use std::path::PathBuf;
use std::time::Duration;

use tonic::Code;

/// Why a call to the runtime failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing answers on the socket: the runtime is down or not up yet.
    #[error("the container runtime does not answer on {}: {message}", socket.display())]
    Unreachable {
        /// Where the runtime was expected.
        socket: PathBuf,
        /// What the connection attempt said.
        message: String,
    },
    /// The runtime took longer than the call may take. It may still finish
    /// the work: look at what is there before trying again.
    #[error("{method} took longer than {limit:?}")]
    Timeout {
        /// The call.
        method: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// The runtime answered with an error; its message is for the user.
    #[error("rpc error: code = {} desc = {message}", code_name(*.code))]
    Refused {
        /// The call.
        method: &'static str,
        /// The gRPC code.
        code: Code,
        /// The runtime's own words.
        message: String,
    },
}

impl Error {
    /// The sandbox, container or image isn't there (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::NotFound,
                ..
            }
        )
    }

    /// The same, with what went wrong after it.
    pub(crate) fn and_then(mut self, what: &str) -> Self {
        if let Self::Refused { message, .. } = &mut self {
            message.push_str("; ");
            message.push_str(what);
        }
        self
    }

    /// The runtime doesn't have this call at all.
    pub fn is_unimplemented(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::Unimplemented,
                ..
            }
        )
    }

    /// The time given to the call was up, on this side or the runtime's.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. }
                | Self::Refused {
                    code: Code::DeadlineExceeded,
                    ..
                }
        )
    }

    /// Whether the runtime is out of reach, rather than refusing.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// gRPC's name of a code, as other Kubernetes tools print it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_other_kubernetes_tools_print_it() {
        let error = Error::Refused {
            method: "PullImage",
            code: Code::NotFound,
            message: "no such image".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "rpc error: code = NotFound desc = no such image"
        );
        assert!(error.is_not_found());
    }
}
