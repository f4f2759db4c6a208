//! Errors as the specification has them: a code that the runtime acts on, a message for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What went wrong, as a number that runtimes know.
///
/// 1 to 99 belong to the specification, 100 and more to the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum Code {
    /// 1: the configuration's `cniVersion` isn't spoken here.
    IncompatibleVersion,
    /// 2: a field of the configuration isn't supported.
    UnsupportedField,
    /// 3: the container is unknown or gone; the runtime need not clean up.
    UnknownContainer,
    /// 4: a `CNI_*` variable is missing or malformed.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: what was read isn't what it should be.
    Decode,
    /// 7: the network configuration is wrong.
    InvalidConfig,
    /// 11: not now; the runtime should try again.
    TryAgainLater,
    /// 50: the plugin can't serve ADD now (STATUS).
    NotAvailable,
    /// 51: as 50, and containers that are attached already may be affected (STATUS).
    NotAvailableLimited,
    /// 100: the attachment isn't as it was made (CHECK).
    CheckFailed,
    /// 101: the kernel refused a change.
    Kernel,
    /// Any other number: a newer agent's.
    Other(u32),
}

impl From<u32> for Code {
    fn from(number: u32) -> Self {
        match number {
            1 => Code::IncompatibleVersion,
            2 => Code::UnsupportedField,
            3 => Code::UnknownContainer,
            4 => Code::InvalidEnvironment,
            5 => Code::Io,
            6 => Code::Decode,
            7 => Code::InvalidConfig,
            11 => Code::TryAgainLater,
            50 => Code::NotAvailable,
            51 => Code::NotAvailableLimited,
            100 => Code::CheckFailed,
            101 => Code::Kernel,
            other => Code::Other(other),
        }
    }
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        match code {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::NotAvailableLimited => 51,
            Code::CheckFailed => 100,
            Code::Kernel => 101,
            Code::Other(other) => other,
        }
    }
}

/// An error to print on stdout, beside a non-zero exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The number that the runtime acts on.
    pub code: Code,
    /// One line: what failed, and what to do about it.
    pub msg: String,
    /// More, if there is more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Error {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// What the plugin prints. `cni_version` is the configuration's own, even if it isn't spoken
    /// here: the runtime must be able to read the refusal.
    pub fn render(&self, cni_version: &str) -> Value {
        let mut out = json!({
            "cniVersion": cni_version,
            "code": u32::from(self.code),
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            out["details"] = Value::from(self.details.as_str());
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.msg, u32::from(self.code))?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for number in 0..200 {
            assert_eq!(u32::from(Code::from(number)), number);
        }
    }

    #[test]
    fn an_error_prints_in_the_specifications_shape() {
        let error = Error::new(Code::TryAgainLater, "not yet").with_details("starting");
        insta::assert_snapshot!(error.render("1.0.0"), @r#"{"cniVersion":"1.0.0","code":11,"details":"starting","msg":"not yet"}"#);
        let bare = Error::new(Code::Io, "disk");
        insta::assert_snapshot!(bare.render("9.9.9"), @r#"{"cniVersion":"9.9.9","code":5,"msg":"disk"}"#);
    }
}
