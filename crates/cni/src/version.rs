//! The CNI versions that are spoken here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};

/// A version of the CNI specification. Later ones compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Version {
    /// 0.3.1: ADD and DEL.
    #[serde(rename = "0.3.1")]
    V0_3_1,
    /// 0.4.0: adds CHECK, and `prevResult` for DEL.
    #[serde(rename = "0.4.0")]
    V0_4_0,
    /// 1.0.0: results lose `ips[].version`.
    #[serde(rename = "1.0.0")]
    V1_0_0,
    /// 1.1.0: adds STATUS and GC; interfaces and routes gain fields.
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

impl Version {
    /// Every version spoken here, oldest first.
    pub const ALL: [Version; 4] = [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    /// The version as the specification writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Version::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| {
                let spoken = Version::ALL.map(Version::as_str).join(", ");
                Error::new(
                    Code::IncompatibleVersion,
                    format!("cniVersion {text:?} isn't supported: use one of {spoken}"),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_back_as_itself() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
    }

    #[test]
    fn an_unknown_version_is_refused_with_the_ones_that_work() {
        let error = "0.2.0".parse::<Version>().expect_err("too old");
        assert_eq!(error.code, Code::IncompatibleVersion);
        assert!(error.msg.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{error}");
    }

    #[test]
    fn versions_are_ordered_by_age() {
        assert!(Version::ALL.is_sorted());
    }
}
