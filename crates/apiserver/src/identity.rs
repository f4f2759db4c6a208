//! Who is asking: the subject of a client certificate.

use x509_parser::prelude::{FromDer, X509Certificate};

/// An authenticated user and the groups it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user, as in `system:node:n1`.
    pub user: String,
    /// The groups, as in `system:nodes`.
    pub groups: Vec<String>,
}

impl Identity {
    /// An identity within this process, as controllers have.
    pub fn new<G: Into<String>>(user: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Identity {
        Identity {
            user: user.into(),
            groups: groups.into_iter().map(Into::into).collect(),
        }
    }

    /// What a client certificate says: the common name is the user, the organisations are its groups.
    /// `None` without a common name.
    pub(crate) fn from_certificate(der: &[u8]) -> Option<Identity> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?;
        let groups = subject
            .iter_organization()
            .filter_map(|organization| organization.as_str().ok());
        Some(Identity::new(user, groups)).filter(|identity| !identity.user.is_empty())
    }

    /// Whether the user belongs to `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The groups that reviews show: the certificate's, and that the user is authenticated at all.
    pub(crate) fn all_groups(&self) -> Vec<&str> {
        let mut groups: Vec<_> = self.groups.iter().map(String::as_str).collect();
        if !groups.contains(&"system:authenticated") {
            groups.push("system:authenticated");
        }
        groups
    }

    /// The node's name, when the user is a node.
    pub(crate) fn node(&self) -> Option<&str> {
        let node = self.user.strip_prefix("system:node:")?;
        (self.is_in("system:nodes") && !node.is_empty()).then_some(node)
    }
}
