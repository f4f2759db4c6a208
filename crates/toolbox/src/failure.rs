//! What can go wrong in a client, and the exit code that says so.

use std::fmt;
use std::io;

/// Why a command didn't do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Not a failure: the text that `--help` prints.
    Help(&'static str),
    /// The command printed its own account; only the exit code is left.
    Reported(u8),
    /// Wrong arguments.
    Usage(String),
    /// The name has no address.
    NotFound(String),
    /// The other side said no.
    Refused,
    /// Nothing came back in time.
    TimedOut(&'static str),
    /// No route, or something on the way said that it can't be reached.
    Unreachable(String),
    /// The connection ended in the middle.
    CutOff(String),
    /// An HTTP status of 400 or above.
    Status(u16),
    /// The answer is not what the server was asked to send.
    Content(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// The exit code; `toolbox --help` lists them.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Help(_) => 0,
            Self::Reported(code) => *code,
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Refused => 4,
            Self::TimedOut(_) => 5,
            Self::Unreachable(_) => 6,
            Self::CutOff(_) => 7,
            Self::Status(_) => 8,
            Self::Content(_) => 9,
        }
    }

    /// Sorts an I/O error; `doing` is what was waited for if it is a timeout.
    pub(crate) fn from_io(error: &io::Error, doing: &'static str) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::ConnectionRefused => Self::Refused,
            K::TimedOut | K::WouldBlock => Self::TimedOut(doing),
            K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown | K::AddrNotAvailable => {
                Self::Unreachable(plain(error))
            }
            K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof => {
                Self::CutOff(plain(error))
            }
            _ => Self::Other(plain(error)),
        }
    }
}

/// The error without Rust's ` (os error 113)`, in lower case.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help(text) => f.write_str(text),
            Self::Reported(code) => write!(f, "failed with code {code}"),
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut(doing) => write!(f, "timed out while {doing}"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::NotFound(name) => write!(f, "no address for `{name}`"),
            Self::Unreachable(text) => write!(f, "unreachable: {text}"),
            Self::CutOff(text) => write!(f, "cut off: {text}"),
            Self::Content(text) => write!(f, "wrong content: {text}"),
            Self::Usage(text) | Self::Other(text) => f.write_str(text),
        }
    }
}
