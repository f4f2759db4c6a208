//! Names: of a cluster, and of what it has in the kernel.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The kernel's limit for the name of a link.
const LINK_NAME: usize = 15;
/// Leaves room for `ripstop-NAME-node-100` in what is derived from it.
const LONGEST: usize = 30;

/// A cluster's name: a DNS label of at most 30 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kubeconfig context, and the cluster and user in it.
    #[must_use]
    pub fn context(&self) -> String {
        format!("ripstop-{}", self.0)
    }

    /// The name of the switch's network namespace.
    #[must_use]
    pub fn switch_netns(&self) -> String {
        format!("ripstop-{}-switch", self.0)
    }

    /// The name of a node's network namespace.
    #[must_use]
    pub fn node_netns(&self, node: &str) -> String {
        format!("ripstop-{}-{node}", self.0)
    }

    /// The machine's end of the link to the switch.
    ///
    /// A name that is too long is cut, and told apart from others like it by a hash.
    #[must_use]
    pub fn machine_link(&self) -> String {
        let plain = format!("rs-{}", self.0);
        if plain.len() <= LINK_NAME {
            return plain;
        }
        let hash = fnv1a(self.0.as_bytes());
        format!("{}-{:06x}", &plain[..LINK_NAME - 7], hash & 0xff_ffff)
    }

    /// The control group of everything in the cluster.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("/ripstop/{}", self.0)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let dash_at_end = text.starts_with('-') || text.ends_with('-');
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > LONGEST || dash_at_end || !text.chars().all(allowed) {
            return Err(Error::ClusterName(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ClusterName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

/// The name of the node with this index, counted from 0.
#[must_use]
pub fn node_name(index: usize) -> String {
    format!("node-{}", index + 1)
}

/// Whether a node can have this name: a DNS label that is also the name of a link, and no other's of the
/// switch's links and namespaces.
#[must_use]
pub fn is_node_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= LINK_NAME
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.chars().all(allowed)
        && !["switch", "machine", "lo"].contains(&text)
}

/// Whether it can be the value of a Kubernetes label.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified_part(text)
}

/// Whether it can be the key of a Kubernetes label: a name, after a DNS subdomain and a slash if need be.
#[must_use]
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_qualified_part(text),
        Some((prefix, name)) => {
            let label = |label: &str| {
                let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                !label.is_empty()
                    && label.chars().all(allowed)
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            prefix.len() <= 253 && prefix.split('.').all(label) && is_qualified_part(name)
        }
    }
}

fn is_qualified_part(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let at_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(allowed)
        && at_end(text.chars().next())
        && at_end(text.chars().next_back())
}

/// FNV-1a, 32 bits: a name's hash has to be the same for ever, and needn't be more.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("local", "rs-local")]
    #[case("twelve-chars", "rs-twelve-chars")]
    #[case("thirteen-char", "rs-thirt-7f5099")]
    fn a_link_name_fits_the_kernel(#[case] name: &str, #[case] link: &str) {
        let name: ClusterName = name.parse().expect("valid");
        assert!(name.machine_link().len() <= LINK_NAME);
        assert_eq!(name.machine_link(), link);
    }

    #[test]
    fn long_names_that_begin_alike_have_links_of_their_own() {
        let link = |text: &str| text.parse::<ClusterName>().expect("valid").machine_link();
        assert_ne!(link("integration-test-one"), link("integration-test-two"));
    }

    #[rstest]
    #[case("")]
    #[case("Local")]
    #[case("a_b")]
    #[case("a.b")]
    #[case("-a")]
    #[case("a-")]
    #[case("../etc")]
    #[case("a-name-of-more-than-thirty-letters")]
    fn what_is_no_label_is_refused(#[case] name: &str) {
        assert!(name.parse::<ClusterName>().is_err());
    }

    #[rstest]
    #[case("a", true)]
    #[case("node-1", true)]
    #[case("zone-a-worker-1", true)]
    #[case("zone-a-worker-12", false)]
    #[case("switch", false)]
    #[case("A", false)]
    #[case("a.b", false)]
    #[case("", false)]
    fn a_nodes_name_fits_a_link(#[case] name: &str, #[case] expected: bool) {
        assert_eq!(is_node_name(name), expected);
    }

    #[test]
    fn labels_are_kubernetes() {
        assert!(is_label_key("example.com/disk") && is_label_key("disk_2"));
        assert!(!is_label_key("a/b/c") && !is_label_key("-a") && !is_label_key("/a") && !is_label_key(""));
        assert!(is_label_value("") && is_label_value("a.B_c-1"));
        assert!(!is_label_value("a b") && !is_label_value("a-") && !is_label_value(&"x".repeat(64)));
    }
}
