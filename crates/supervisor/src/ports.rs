//! Ports that Services can have on every node.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::agent_config::KUBELET_PORT;
use crate::dns_config::METRICS_PORT;

/// What nodes listen on themselves.
const OWN: [(u16, &str); 4] = [
    (53, "its DNS"),
    (4789, "tunnels to other nodes"),
    (METRICS_PORT, "its DNS's numbers"),
    (KUBELET_PORT, "its kubelet"),
];

/// A range of node ports, as in `30000-32767`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodePorts {
    first: u16,
    last: u16,
}

impl NodePorts {
    /// The ports.
    #[must_use]
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl Default for NodePorts {
    fn default() -> Self {
        Self {
            first: 30_000,
            last: 32_767,
        }
    }
}

/// It can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodePortsError {
    /// It isn't FIRST-LAST.
    #[error("it is no range of ports: write FIRST-LAST, as in 30000-32767")]
    NoRange,
    /// It ends before it begins.
    #[error("it ends before it begins: write the smaller port first, as in 30000-32767")]
    Backwards,
    /// Nodes need one of the ports.
    #[error("it has port {port}, which a node needs for {what}: leave that out, as in 30000-32767")]
    Needed {
        /// Which.
        port: u16,
        /// For what.
        what: &'static str,
    },
}

impl FromStr for NodePorts {
    type Err = NodePortsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let ends = text.split_once('-');
        let ends = ends.and_then(|(first, last)| port(first).zip(port(last)));
        let (first, last) = ends.ok_or(NodePortsError::NoRange)?;
        if first > last {
            return Err(NodePortsError::Backwards);
        }
        match OWN.iter().find(|(port, _)| (first..=last).contains(port)) {
            Some(&(port, what)) => Err(NodePortsError::Needed { port, what }),
            None => Ok(Self { first, last }),
        }
    }
}

impl fmt::Display for NodePorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl From<NodePorts> for String {
    fn from(ports: NodePorts) -> Self {
        ports.to_string()
    }
}

impl TryFrom<String> for NodePorts {
    type Error = NodePortsError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_checked_before_it_is_taken() {
        let parse = |text: &str| text.parse::<NodePorts>().map(|ports| ports.to_string());
        assert_eq!(parse("30000-32767").as_deref(), Ok("30000-32767"));
        assert_eq!(parse("8000 - 8000").as_deref(), Ok("8000-8000"));
        for (text, message) in [
            ("", "no range of ports"),
            ("30000", "no range of ports"),
            ("0-100", "no range of ports"),
            ("30000-70000", "no range of ports"),
            ("30000+10", "no range of ports"),
            ("32767-30000", "ends before it begins"),
            ("1-60", "port 53, which a node needs for its DNS"),
            ("10000-20000", "port 10250, which a node needs for its kubelet"),
        ] {
            let error = parse(text).expect_err("none").to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
