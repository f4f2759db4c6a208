//! What the runtime passes in the environment: `CNI_COMMAND` and its arguments.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};
use crate::version::Version;

/// Longest interface name, without the terminating zero (the kernel's `IFNAMSIZ`).
const INTERFACE_NAME_MAX: usize = 15;

/// What the runtime wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// See whether it is attached as ADD left it.
    Check,
    /// Say whether ADD would work.
    Status,
    /// Release what the runtime no longer knows.
    Gc,
    /// Say which versions are spoken.
    Version,
}

impl Command {
    /// As the specification writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Status => "STATUS",
            Command::Gc => "GC",
            Command::Version => "VERSION",
        }
    }

    /// The first version that has this command.
    pub const fn since(self) -> Version {
        match self {
            Command::Add | Command::Del | Command::Version => Version::V0_3_1,
            Command::Check => Version::V0_4_0,
            Command::Status | Command::Gc => Version::V1_1_0,
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        [
            Command::Add,
            Command::Del,
            Command::Check,
            Command::Status,
            Command::Gc,
            Command::Version,
        ]
        .into_iter()
        .find(|command| command.as_str() == text)
        .ok_or_else(|| {
            environment(format!(
                "CNI_COMMAND={text:?} isn't one of ADD, DEL, CHECK, STATUS, GC, VERSION"
            ))
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The environment of one call, checked: what the command needs is there and well-formed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for STATUS, GC and VERSION.
    #[serde(default)]
    pub container_id: String,
    /// `CNI_NETNS`: path of the container's network namespace. DEL may come without it, when the
    /// namespace is gone.
    #[serde(default)]
    pub netns: Option<String>,
    /// `CNI_IFNAME`; empty for STATUS, GC and VERSION.
    #[serde(default)]
    pub interface: String,
    /// `CNI_ARGS`, split: what Kubernetes runtimes say about the pod.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
}

impl Call {
    /// Reads a call from variables, which `lookup` finds by name.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Call, Error> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let command = Command::parse(&get("CNI_COMMAND").unwrap_or_default())?;
        let call = Call {
            command,
            container_id: get("CNI_CONTAINERID").unwrap_or_default(),
            netns: get("CNI_NETNS"),
            interface: get("CNI_IFNAME").unwrap_or_default(),
            args: parse_args(&get("CNI_ARGS").unwrap_or_default())?,
        };
        call.validate()?;
        Ok(call)
    }

    /// Refuses a call that lacks what its command needs. The agent asks this again: it believes
    /// nobody.
    pub fn validate(&self) -> Result<(), Error> {
        if matches!(self.command, Command::Add | Command::Del | Command::Check) {
            check_container_id(&self.container_id)?;
            check_interface(&self.interface)?;
        }
        if matches!(self.command, Command::Add | Command::Check) && self.netns.is_none() {
            return Err(environment(format!(
                "CNI_NETNS is missing: {} needs the path of a network namespace",
                self.command
            )));
        }
        Ok(())
    }

    /// An argument of `CNI_ARGS`, or nothing.
    pub fn arg(&self, name: &str) -> &str {
        self.args.get(name).map_or("", String::as_str)
    }
}

fn environment(msg: String) -> Error {
    Error::new(Code::InvalidEnvironment, msg)
}

fn check_container_id(id: &str) -> Result<(), Error> {
    let starts_well = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    let all_well = id
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if starts_well && all_well {
        return Ok(());
    }
    Err(environment(format!(
        "CNI_CONTAINERID={id:?} must start with a letter or digit and go on with those or _ . -"
    )))
}

fn check_interface(name: &str) -> Result<(), Error> {
    let bad_character = |c: char| c == '/' || c == ':' || c.is_whitespace();
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > INTERFACE_NAME_MAX {
        "is longer than 15 bytes"
    } else if name == "." || name == ".." {
        "isn't a name"
    } else if name.contains(bad_character) {
        "has a /, a : or a space in it"
    } else {
        return Ok(());
    };
    Err(environment(format!("CNI_IFNAME={name:?} {problem}")))
}

/// `A=1;B=2`. A key with no `=` is an error, as in the reference implementation.
fn parse_args(text: &str) -> Result<BTreeMap<String, String>, Error> {
    text.split(';')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(environment(format!("CNI_ARGS: {pair:?} isn't KEY=VALUE"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Call, Error> {
        Call::read(|name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_add_is_read_whole() {
        let call = read(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAME=web-1;K8S_POD_NAMESPACE=a=b",
            ),
        ])
        .expect("a valid call");
        assert_eq!(call.command, Command::Add);
        assert_eq!(call.netns.as_deref(), Some("/run/netns/x"));
        assert_eq!(call.arg("K8S_POD_NAME"), "web-1");
        assert_eq!(call.arg("K8S_POD_NAMESPACE"), "a=b");
        assert_eq!(call.arg("K8S_POD_UID"), "");
    }

    #[test]
    fn a_del_needs_no_namespace() {
        let call = read(&[
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_NETNS", ""),
            ("CNI_IFNAME", "eth0"),
        ]);
        assert_eq!(call.expect("valid").netns, None);
    }

    #[rstest]
    #[case::status("STATUS")]
    #[case::gc("GC")]
    #[case::version("VERSION")]
    fn node_wide_commands_need_no_container(#[case] command: &str) {
        read(&[("CNI_COMMAND", command)]).expect("valid");
    }

    #[rstest]
    #[case::no_command(&[], "CNI_COMMAND")]
    #[case::lower_case(&[("CNI_COMMAND", "add")], "CNI_COMMAND")]
    #[case::no_container(&[("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/n")], "CNI_CONTAINERID")]
    #[case::path_in_id(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "eth0")], "CNI_CONTAINERID")]
    #[case::no_netns(&[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0")], "CNI_NETNS")]
    #[case::no_interface(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c")], "CNI_IFNAME")]
    #[case::long_interface(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "a234567890123456")], "15 bytes")]
    #[case::slash(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "a/b")], "CNI_IFNAME")]
    #[case::args(&[("CNI_COMMAND", "STATUS"), ("CNI_ARGS", "loose")], "CNI_ARGS")]
    fn a_malformed_call_is_refused_by_name(#[case] vars: &[(&str, &str)], #[case] names: &str) {
        let error = read(vars).expect_err("malformed");
        assert_eq!(error.code, Code::InvalidEnvironment);
        assert!(error.msg.contains(names), "{error}");
    }
}
