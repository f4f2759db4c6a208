//! How the pods of different nodes reach each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the pods of different nodes reach each other, the same on every node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodNetwork {
    /// By routes or by tunnels.
    pub mode: PodNetworkMode,
    /// What the tunnels are like, where there are any.
    pub vxlan: Vxlan,
}

/// Whether pods' packets are routed as they are or carried in a tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodNetworkMode {
    /// Routed between nodes that share a link, in a tunnel between others; decided for each pair
    /// of nodes and each family.
    #[default]
    Auto,
    /// Always routed. Pods of nodes that don't share a link don't reach each other.
    Native,
    /// Always in a tunnel, for networks that carry nodes' addresses alone.
    Vxlan,
}

/// What tells our tunnels from others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vxlan {
    /// The network identifier in every packet, 24 bits. Tunnels of one port and different
    /// identifiers live beside each other.
    pub vni: u32,
    /// The UDP port that tunnels listen on.
    pub port: u16,
}

impl Vxlan {
    /// The number of a network identifier's values.
    pub const VNI_END: u32 = 1 << 24;
}

impl Default for Vxlan {
    /// IANA's port, and a number that no other pod network takes by default (82 is `R`).
    fn default() -> Vxlan {
        Vxlan { vni: 82, port: 4789 }
    }
}

impl PodNetworkMode {
    /// All of them.
    pub const ALL: [PodNetworkMode; 3] = [
        PodNetworkMode::Auto,
        PodNetworkMode::Native,
        PodNetworkMode::Vxlan,
    ];

    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            PodNetworkMode::Auto => "auto",
            PodNetworkMode::Native => "native",
            PodNetworkMode::Vxlan => "vxlan",
        }
    }
}

impl fmt::Display for PodNetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text was none of the modes' names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of pod network (there are auto, native and vxlan)")]
pub struct ParseModeError(String);

impl FromStr for PodNetworkMode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<PodNetworkMode, ParseModeError> {
        PodNetworkMode::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| ParseModeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for mode in PodNetworkMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let error = "Native".parse::<PodNetworkMode>().unwrap_err();
        assert!(error.to_string().contains("auto, native and vxlan"), "{error}");
    }
}
