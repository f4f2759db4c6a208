//! Which ConfigMaps and Secrets a pod uses.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use crate::objects::Source;
use crate::pod;

/// Every object that the pod's containers, volumes and pulls name.
pub(crate) fn of(pod: &Pod) -> BTreeSet<(Source, String)> {
    let mut found = BTreeSet::new();
    for container in pod::all_containers(pod) {
        of_container(container, &mut found);
    }
    for container in pod::ephemeral_containers(pod) {
        of_container(&pod::as_container(container), &mut found);
    }
    for volume in pod::spec(pod).volumes.iter().flatten() {
        of_volume(volume, &mut found);
    }
    for secret in pod::spec(pod).image_pull_secrets.iter().flatten() {
        found.insert((Source::Secret, secret.name.clone()));
    }
    found
}

fn of_container(container: &Container, found: &mut BTreeSet<(Source, String)>) {
    for from in container.env_from.iter().flatten() {
        if let Some(it) = &from.config_map_ref {
            found.insert((Source::ConfigMap, it.name.clone()));
        }
        if let Some(it) = &from.secret_ref {
            found.insert((Source::Secret, it.name.clone()));
        }
    }
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.value_from.as_ref())
    {
        if let Some(it) = &from.config_map_key_ref {
            found.insert((Source::ConfigMap, it.name.clone()));
        }
        if let Some(it) = &from.secret_key_ref {
            found.insert((Source::Secret, it.name.clone()));
        }
    }
}

fn of_volume(volume: &Volume, found: &mut BTreeSet<(Source, String)>) {
    if let Some(it) = &volume.config_map {
        found.insert((Source::ConfigMap, it.name.clone()));
    }
    if let Some(name) = volume.secret.as_ref().and_then(|s| s.secret_name.clone()) {
        found.insert((Source::Secret, name));
    }
    let projected = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
    for source in projected.into_iter().flatten() {
        if let Some(it) = &source.config_map {
            found.insert((Source::ConfigMap, it.name.clone()));
        }
        if let Some(it) = &source.secret {
            found.insert((Source::Secret, it.name.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use serde_json::json;

    #[test]
    fn objects_are_found_wherever_they_are_named() {
        let it = pod(json!({"spec": {
            "imagePullSecrets": [{"name": "registry"}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "init"}}]}],
            "containers": [{"name": "a", "env": [
                {"name": "X", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}]}],
            "volumes": [
                {"name": "c", "configMap": {"name": "settings"}},
                {"name": "s", "secret": {"secretName": "cert"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "root-ca"}}]}}]}}));
        let names: Vec<_> = of(&it).into_iter().map(|(s, n)| format!("{s:?} {n}")).collect();
        insta::assert_snapshot!(names.join("\n"), @r"
        ConfigMap init
        ConfigMap root-ca
        ConfigMap settings
        Secret cert
        Secret keys
        Secret registry
        ");
    }
}
