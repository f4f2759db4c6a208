//! The network configuration that the runtime passes on stdin.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::call::Command;
use crate::error::{Code, Error};
use crate::version::Version;

/// How long a call waits for an agent that doesn't listen, unless the configuration says.
///
/// Long enough for an agent to restart, so that an upgrade fails no pod.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call waits for its answer, unless the configuration says.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One plugin's configuration, as the runtime hands it over.
///
/// Keys that aren't known here are kept in `rest`: they belong to the runtime or to plugins
/// further down the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
    /// Which version the runtime wants its answer in, as it wrote it.
    #[serde(default)]
    pub cni_version: String,
    /// The network's name.
    #[serde(default)]
    pub name: String,
    /// The plugin's name.
    #[serde(default, rename = "type")]
    pub plugin: String,
    /// Ours: the agent's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Ours: how long to wait for an agent that doesn't listen, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
    /// Ours: how long to wait for an answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_timeout_ms: Option<u64>,
    /// What the chain has built so far (ADD), or what ADD returned (CHECK, DEL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_result: Option<Value>,
    /// GC: the attachments that the runtime still knows. None if it didn't say.
    #[serde(
        default,
        rename = "cni.dev/valid-attachments",
        deserialize_with = "said",
        skip_serializing_if = "Option::is_none"
    )]
    pub valid_attachments: Option<Vec<ValidAttachment>>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// An attachment that GC must keep.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValidAttachment {
    /// `CNI_CONTAINERID` of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    pub ifname: String,
}

/// A list that is there. Runtimes in Go write `null` for an empty one, which is not the same as
/// leaving it out.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<ValidAttachment>>, D::Error> {
    Option::deserialize(deserializer).map(|list| Some(list.unwrap_or_default()))
}

impl NetworkConfig {
    /// Reads a configuration.
    pub fn parse(bytes: &[u8]) -> Result<NetworkConfig, Error> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::new(
                Code::Decode,
                format!("the network configuration on stdin can't be read: {error}"),
            )
        })
    }

    /// The version to answer in, if it is spoken here and has `command`.
    pub fn version_for(&self, command: Command) -> Result<Version, Error> {
        if self.cni_version.is_empty() {
            return Err(Error::new(
                Code::InvalidConfig,
                "the network configuration has no cniVersion",
            ));
        }
        let version: Version = self.cni_version.parse()?;
        if version < command.since() {
            return Err(Error::new(
                Code::IncompatibleVersion,
                format!(
                    "{command} exists from cniVersion {} on, and the configuration says {version}",
                    command.since()
                ),
            ));
        }
        Ok(version)
    }

    /// Refuses a configuration that can't serve `command`.
    pub fn validate(&self, command: Command) -> Result<Version, Error> {
        let version = self.version_for(command)?;
        let starts_well = self.name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let all_well = self
            .name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if command != Command::Version && !(starts_well && all_well) {
            return Err(Error::new(
                Code::InvalidConfig,
                format!(
                    "network name {:?} must start with a letter or digit and go on with those or _ . -",
                    self.name
                ),
            ));
        }
        Ok(version)
    }

    /// The agent's socket.
    pub fn socket(&self) -> Result<&std::path::Path, Error> {
        self.socket.as_deref().ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                "the network configuration has no `socket`, the path where the ripstop agent listens: \
                 let the agent write the configuration",
            )
        })
    }

    /// How long to wait for an agent that doesn't listen.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout_ms
            .map_or(CONNECT_TIMEOUT, Duration::from_millis)
    }

    /// How long to wait for an answer.
    pub fn answer_timeout(&self) -> Duration {
        self.answer_timeout_ms
            .map_or(ANSWER_TIMEOUT, Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> NetworkConfig {
        NetworkConfig::parse(value.to_string().as_bytes()).expect("JSON of the right shape")
    }

    #[test]
    fn unknown_keys_are_kept() {
        let value = json!({
            "cniVersion": "1.1.0", "name": "ripstop", "type": "ripstop-cni", "socket": "/s",
            "runtimeConfig": {"portMappings": []}, "prevResult": {"ips": []},
            "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}],
        });
        let config = parse(&value);
        assert_eq!(config.rest["runtimeConfig"], json!({"portMappings": []}));
        assert_eq!(config.valid_attachments.as_ref().map(Vec::len), Some(1));
        assert_eq!(serde_json::to_value(&config).expect("serialises"), value);
    }

    #[test]
    fn no_valid_attachments_and_no_word_about_them_differ() {
        let key = "cni.dev/valid-attachments";
        assert_eq!(parse(&json!({ key: null })).valid_attachments, Some(Vec::new()));
        assert_eq!(parse(&json!({ key: [] })).valid_attachments, Some(Vec::new()));
        assert_eq!(parse(&json!({})).valid_attachments, None);
    }

    #[rstest]
    #[case::no_version(json!({"name": "n"}), Command::Add, Code::InvalidConfig)]
    #[case::old(json!({"cniVersion": "0.1.0", "name": "n"}), Command::Add, Code::IncompatibleVersion)]
    #[case::check_in_031(json!({"cniVersion": "0.3.1", "name": "n"}), Command::Check, Code::IncompatibleVersion)]
    #[case::gc_in_100(json!({"cniVersion": "1.0.0", "name": "n"}), Command::Gc, Code::IncompatibleVersion)]
    #[case::status_in_100(json!({"cniVersion": "1.0.0", "name": "n"}), Command::Status, Code::IncompatibleVersion)]
    #[case::no_name(json!({"cniVersion": "1.0.0"}), Command::Add, Code::InvalidConfig)]
    #[case::odd_name(json!({"cniVersion": "1.0.0", "name": "../x"}), Command::Del, Code::InvalidConfig)]
    fn a_configuration_that_cannot_serve_is_refused(
        #[case] value: Value,
        #[case] command: Command,
        #[case] code: Code,
    ) {
        assert_eq!(parse(&value).validate(command).expect_err("refused").code, code);
    }

    #[test]
    fn garbage_is_a_decoding_failure() {
        let error = NetworkConfig::parse(b"{").expect_err("not JSON");
        assert_eq!(error.code, Code::Decode);
    }

    #[test]
    fn a_missing_socket_says_who_writes_the_configuration() {
        let error = parse(&json!({"cniVersion": "1.0.0"}))
            .socket()
            .expect_err("none")
            .msg;
        assert!(error.contains("let the agent write"), "{error}");
    }
}
