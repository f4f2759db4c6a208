//! ServiceAccount.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::kind::Kind;

pub(crate) const KIND: Kind = Kind {
    short_names: &["sa"],
    subresources: &["token"],
    ..Kind::namespaced::<ServiceAccount>("serviceaccount")
};
