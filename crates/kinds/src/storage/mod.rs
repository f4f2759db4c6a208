//! `storage.k8s.io/v1`, as objects: nothing here provides storage.

pub(crate) mod csidriver;
pub(crate) mod csinode;
pub(crate) mod storageclass;
pub(crate) mod volumeattachment;
