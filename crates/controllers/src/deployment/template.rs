//! Pod templates: whether two are the same, and the hash that names a ReplicaSet after one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label that tells the pods of one ReplicaSet from those of the next.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Letters and digits that can form no word and are not mistaken for one another.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates ask for the same pods, the hash label aside.
pub(super) fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    normal(a) == normal(b)
}

/// Without the hash label, and without the difference between empty and absent maps.
fn normal(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let mut meta = template.metadata.take().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    template.metadata = Some(meta);
    template
}

/// A short name for a template. `collisions` makes it another one, should a different template
/// ever have had the same.
pub(super) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let json = serde_json::to_vec(&normal(template));
    let json = json.expect("a template has string keys only, so it is always JSON");
    let mut hash = fnv1a(FNV_OFFSET, &json);
    if collisions > 0 {
        hash = fnv1a(hash, &collisions.to_le_bytes());
    }
    let letter = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
    (hash as u32 ^ (hash >> 32) as u32)
        .to_string()
        .bytes()
        .map(letter)
        .collect()
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a: not for secrets, but the same on every machine and in every version.
fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    bytes.iter().fold(start, step)
}

/// Labels with the hash label added.
pub(super) fn with_hash(labels: Option<&BTreeMap<String, String>>, hash: &str) -> BTreeMap<String, String> {
    let mut labels = labels
        .map_or_else(|| Cow::Owned(BTreeMap::new()), Cow::Borrowed)
        .into_owned();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn template(labels: Value, image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "c", "image": image }] },
        }))
        .unwrap()
    }

    #[test]
    fn the_hash_label_and_empty_maps_make_no_difference() {
        let plain = template(json!({ "app": "web" }), "a");
        let labelled = template(json!({ "app": "web", "pod-template-hash": "x" }), "a");
        assert!(same(&plain, &labelled));
        assert_eq!(hash(&plain, 0), hash(&labelled, 0));
        assert!(same(&template(json!({}), "a"), &template(json!(null), "a")));
        assert!(!same(&plain, &template(json!({ "app": "web" }), "b")));
    }

    #[test]
    fn the_hash_is_the_same_in_every_version() {
        // If this fails, every Deployment of every user rolls once on upgrade.
        assert_eq!(hash(&template(json!({ "app": "web" }), "a"), 0), "74c447f6bb");
    }

    #[test]
    fn a_collision_gives_another_name() {
        let template = template(json!({ "app": "web" }), "a");
        let names: std::collections::HashSet<_> = (0..5).map(|n| hash(&template, n)).collect();
        assert_eq!(names.len(), 5);
    }
}
