//! Who is asking.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Everybody who proved who they are.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user whom nobody vouches for.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything.
pub(crate) const MASTERS: &str = "system:masters";
/// How the user names of ServiceAccounts begin; namespace and name follow.
const ACCOUNT: &str = "system:serviceaccount:";

/// A user, and what goes with one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user, as in `system:node:n1`.
    pub user: String,
    /// What tells users of the same name apart, where there is such a thing.
    pub uid: String,
    /// The groups, as in `system:nodes`.
    pub groups: Vec<String>,
    /// Whatever else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// An authenticated user.
    pub fn new<G: Into<String>>(user: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Identity {
        let mut identity = Identity {
            user: user.into(),
            groups: groups.into_iter().map(Into::into).collect(),
            ..Identity::default()
        };
        if !identity.is_in(AUTHENTICATED) {
            identity.groups.push(AUTHENTICATED.to_owned());
        }
        identity
    }

    /// A ServiceAccount: what its tokens speak for, and what controllers are.
    pub fn service_account(namespace: &str, name: &str) -> Identity {
        Identity::new(account_user(namespace, name), account_groups(namespace))
    }

    /// Somebody who brought no credentials.
    pub(crate) fn anonymous() -> Identity {
        Identity {
            user: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Identity::default()
        }
    }

    /// The server itself.
    pub(crate) fn server() -> Identity {
        Identity::new("system:apiserver", [MASTERS])
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

    /// Whether the user may do everything.
    pub(crate) fn is_master(&self) -> bool {
        self.is_in(MASTERS)
    }

    /// The node's name, when the user is a node.
    pub(crate) fn node(&self) -> Option<&str> {
        let node = self.user.strip_prefix("system:node:")?;
        (self.is_in("system:nodes") && !node.is_empty()).then_some(node)
    }

    /// As `UserInfo` objects show it.
    pub(crate) fn user_info(&self) -> Value {
        let mut info = json!({ "username": self.user });
        if !self.uid.is_empty() {
            info["uid"] = self.uid.as_str().into();
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// The user name of a ServiceAccount.
pub(crate) fn account_user(namespace: &str, name: &str) -> String {
    format!("{ACCOUNT}{namespace}:{name}")
}

/// The groups of every ServiceAccount in a namespace.
pub(crate) fn account_groups(namespace: &str) -> [String; 2] {
    [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// Namespace and name of the ServiceAccount that a user name stands for.
pub(crate) fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_known_by_its_user_name() {
        let account = Identity::service_account("kube-system", "robot");
        assert_eq!(account_of(&account.user), Some(("kube-system", "robot")));
        for user in [
            "system:serviceaccount:a",
            "system:serviceaccount::a",
            "system:serviceaccount:a:b:c",
            "jane",
        ] {
            assert_eq!(account_of(user), None, "{user}");
        }
    }

    #[test]
    fn a_node_is_one_by_name_and_group() {
        assert_eq!(Identity::new("system:node:n", ["system:nodes"]).node(), Some("n"));
        assert_eq!(Identity::new("system:node:n", ["other"]).node(), None);
        assert_eq!(Identity::new("system:node:", ["system:nodes"]).node(), None);
    }
}
