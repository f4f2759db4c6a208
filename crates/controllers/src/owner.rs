//! Who owns what: controller references, and the claims that selectors make.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::{Doing, Error};

/// The reference to the controller, of which an object has one at most.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    references
        .iter()
        .find(|reference| reference.controller == Some(true))
}

/// A reference that says `owner` controls the object which carries it.
pub(crate) fn controller_ref<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    let meta = owner.meta();
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether `meta` is controlled by the object with this UID.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|reference| reference.uid == uid)
}

/// A selector as the API server has checked it.
pub(crate) fn selector(object: &str, selector: &LabelSelector) -> Result<Selector, Error> {
    Selector::try_from(selector.clone()).map_err(|error| Error::Object {
        object: object.to_owned(),
        reason: format!("its selector is not valid ({error})"),
    })
}

/// Whether a selector selects the labels of an object.
pub(crate) fn selects(selector: &Selector, meta: &ObjectMeta) -> bool {
    match &meta.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&std::collections::BTreeMap::new()),
    }
}

/// What an owner's selector means for one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the owner's, and stays so.
    Keep,
    /// It is nobody's and should be the owner's.
    Adopt,
    /// It is the owner's and should no longer be.
    Release,
    /// It is none of the owner's business.
    Ignore,
}

/// Decides about one object of the owner's namespace.
pub(crate) fn claim(owner: &ObjectMeta, selector: &Selector, object: &ObjectMeta) -> Claim {
    let leaving = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if selects(selector, object) => Claim::Keep,
        Some(_) if leaving => Claim::Ignore,
        Some(_) => Claim::Release,
        None if leaving || object.deletion_timestamp.is_some() => Claim::Ignore,
        None if selects(selector, object) => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// Asks the server whether an owner is still the same and not being deleted. The cache may be stale, and
/// an owner that is being deleted must not adopt.
pub(crate) async fn is_still_there<K>(api: &Api<K>, owner: &ObjectMeta) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let name = owner.name.as_deref().unwrap_or_default();
    let live = api.get_opt(name).await;
    let live = live.doing(|| format!("look at {} {name}", K::kind(&())))?;
    Ok(live.is_some_and(|live| {
        let meta = live.meta();
        meta.uid == owner.uid && meta.deletion_timestamp.is_none()
    }))
}

/// Replaces an object's owner references, unless somebody else changed the object meanwhile.
pub(crate) async fn write_owners<K>(
    api: &Api<K>,
    object: &ObjectMeta,
    references: &[OwnerReference],
) -> Result<K, Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let name = object.name.as_deref().unwrap_or_default();
    let patch = json!({ "metadata": {
        "uid": object.uid,
        "resourceVersion": object.resource_version,
        "ownerReferences": references,
    }});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .doing(|| format!("change the owners of {name}"))
}

/// An object's owner references with one more.
pub(crate) fn owners_with(object: &ObjectMeta, reference: OwnerReference) -> Vec<OwnerReference> {
    let mut references = owners_without(object, &reference.uid);
    references.push(reference);
    references
}

/// An object's owner references without those to one owner.
pub(crate) fn owners_without(object: &ObjectMeta, uid: &str) -> Vec<OwnerReference> {
    let references = object.owner_references.as_deref().unwrap_or_default();
    references
        .iter()
        .filter(|reference| reference.uid != uid)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn meta(uid: &str, app: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            labels: Some([("app".to_owned(), app.to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    fn owned(mut object: ObjectMeta, uid: &str) -> ObjectMeta {
        object.owner_references = Some(vec![OwnerReference {
            uid: uid.to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        object
    }

    fn leaving(mut object: ObjectMeta) -> ObjectMeta {
        object.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        object
    }

    #[test]
    fn claims_follow_selector_and_owner() {
        let owner = meta("me", "");
        let web: Selector = [("app", "web")].into_iter().collect();
        let claim = |owner: &ObjectMeta, object: ObjectMeta| claim(owner, &web, &object);
        assert_eq!(claim(&owner, owned(meta("x", "web"), "me")), Claim::Keep);
        assert_eq!(claim(&owner, owned(meta("x", "db"), "me")), Claim::Release);
        assert_eq!(claim(&owner, owned(meta("x", "web"), "other")), Claim::Ignore);
        assert_eq!(claim(&owner, meta("x", "web")), Claim::Adopt);
        assert_eq!(claim(&owner, meta("x", "db")), Claim::Ignore);
        assert_eq!(claim(&owner, leaving(meta("x", "web"))), Claim::Ignore);
    }

    #[test]
    fn an_owner_that_goes_away_takes_and_gives_nothing() {
        let owner = leaving(meta("me", ""));
        let web: Selector = [("app", "web")].into_iter().collect();
        assert_eq!(claim(&owner, &web, &owned(meta("x", "web"), "me")), Claim::Keep);
        assert_eq!(claim(&owner, &web, &owned(meta("x", "db"), "me")), Claim::Ignore);
        assert_eq!(claim(&owner, &web, &meta("x", "web")), Claim::Ignore);
    }

    #[test]
    fn owners_are_added_once() {
        let object = owned(meta("x", "web"), "me");
        let reference = OwnerReference {
            uid: "me".to_owned(),
            ..OwnerReference::default()
        };
        assert_eq!(owners_with(&object, reference).len(), 1);
        assert!(owners_without(&object, "me").is_empty());
    }
}
