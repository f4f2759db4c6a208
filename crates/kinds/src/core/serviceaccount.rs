//! ServiceAccount.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::entry::Entry;

pub(crate) const KIND: Entry = Entry {
    short_names: &["sa"],
    subresources: &["token"],
    ..Entry::namespaced::<ServiceAccount>("serviceaccount")
};
