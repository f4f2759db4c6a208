//! A request for a resource, understood.

use kinds::Kind;

use crate::auth::identity::Identity;
use crate::negotiate::Accept;
use crate::path::Query;
use crate::status::{Failure, Subject};

/// What a request is about.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) identity: Identity,
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    pub(crate) query: Query,
    pub(crate) accept: Accept,
    pub(crate) dry_run: bool,
    /// In whose name fields are written.
    pub(crate) manager: String,
}

impl Call {
    /// The server's own wish about a kind.
    pub(crate) fn of_server(kind: &Kind, namespace: Option<&str>) -> Call {
        Call {
            identity: Identity::server(),
            kind: kind.clone(),
            namespace: namespace.map(str::to_owned),
            name: None,
            subresource: None,
            query: Query::default(),
            accept: Accept::default(),
            dry_run: false,
            manager: "kube-apiserver".to_owned(),
        }
    }

    /// The object's name; the route guarantees one where this is asked.
    pub(crate) fn name(&self) -> Result<&str, Failure> {
        self.name.as_deref().ok_or_else(Failure::method_not_allowed)
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::of(&self.kind, self.name.as_deref().unwrap_or_default())
    }
}
