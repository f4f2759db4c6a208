//! The ServiceAccount admission plugin: a pod runs as an account that exists, and gets a token for it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::object::{self, list, text};
use crate::server::ApiServer;
use crate::status::{Failure, Subject};

/// Where containers look for their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How the volume's name begins.
const VOLUME: &str = "kube-api-access-";
/// How long a token lasts; the kubelet renews it before.
const SECONDS: i64 = 3607;
/// The account that every namespace gets, a moment after it was made …
const DEFAULT: &str = "default";
/// … for which a pod waits so long.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Completes a new pod, with its defaults set. A server without a key gives no tokens, and asks for no account.
pub(crate) async fn admit(server: &ApiServer, pod: &mut Value) -> Result<(), Failure> {
    let is_mirror = pod["metadata"]["annotations"]
        .get("kubernetes.io/config.mirror")
        .is_some();
    if server.tokens.is_none() || is_mirror {
        return Ok(());
    }
    let namespace = text(pod, "/metadata/namespace").to_owned();
    let account = find(server, pod, &namespace).await?;
    let automount = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_bool);
    let wanted = automount(pod, "/spec/automountServiceAccountToken")
        .or_else(|| automount(&account, "/automountServiceAccountToken"))
        .unwrap_or(true);
    if wanted {
        mount_token(pod);
    }
    let secrets = list(&account, "/imagePullSecrets");
    if list(pod, "/spec/imagePullSecrets").is_empty() && !secrets.is_empty() {
        pod["spec"]["imagePullSecrets"] = secrets.into();
    }
    Ok(())
}

/// The pod's account. The one of a new namespace is waited for.
async fn find(server: &ApiServer, pod: &Value, namespace: &str) -> Result<Value, Failure> {
    let name = text(pod, "/spec/serviceAccountName");
    let kind = kinds::find("", "v1", "serviceaccounts").expect("the table has ServiceAccount");
    let key = object::key(kind, Some(namespace), name);
    let look = || -> Result<Option<Value>, Failure> {
        let entry = server.store.get(&key)?;
        entry.map(|entry| object::parse(&entry.value)).transpose()
    };
    // The watch begins before the look: what is made in between is seen.
    let mut made = server.store.watch(&key, server.store.revision())?;
    if let Some(account) = look()? {
        return Ok(account);
    }
    let come = async {
        loop {
            made.next().await?;
            if let Some(account) = look()? {
                return Ok::<_, Failure>(account);
            }
        }
    };
    if name == DEFAULT
        && let Ok(account) = tokio::time::timeout(PATIENCE, come).await
    {
        return account;
    }
    let why =
        format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
    let subject = Subject::of(server.pods(), text(pod, "/metadata/name"));
    Err(Failure::forbidden(subject, &why))
}

/// Mounts a token into every container that has nothing in its place yet.
fn mount_token(pod: &mut Value) {
    let volumes = list(pod, "/spec/volumes")
        .iter()
        .map(|volume| text(volume, "/name"));
    let own = volumes
        .into_iter()
        .find(|name| name.starts_with(VOLUME))
        .map(str::to_owned);
    let has_volume = own.is_some();
    let name = own.unwrap_or_else(|| crate::create::random_name(VOLUME));
    let mut used = false;
    let spec = object::child(pod, "spec");
    for group in ["initContainers", "containers"] {
        for container in spec
            .get_mut(group)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let taken = list(container, "/volumeMounts")
                .iter()
                .any(|mount| text(mount, "/mountPath") == MOUNT_PATH);
            if !taken {
                push(
                    container,
                    "volumeMounts",
                    json!({ "name": name, "readOnly": true, "mountPath": MOUNT_PATH }),
                );
                used = true;
            }
        }
    }
    if used && !has_volume {
        push(&mut pod["spec"], "volumes", volume(&name));
    }
}

fn push(object: &mut Value, field: &str, item: Value) {
    match object[field].as_array_mut() {
        Some(items) => items.push(item),
        None => object[field] = json!([item]),
    }
}

/// A token, the authority by which to know the server, and the pod's namespace.
fn volume(name: &str) -> Value {
    json!({ "name": name, "projected": { "defaultMode": 0o644, "sources": [
        { "serviceAccountToken": { "expirationSeconds": SECONDS, "path": "token" } },
        { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        { "downwardAPI": { "items": [{
            "path": "namespace",
            "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
        }] } },
    ] } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gets_the_token_that_has_nothing_in_its_place() {
        let mut pod = json!({ "spec": {
            "initContainers": [{ "name": "i" }],
            "containers": [
                { "name": "a", "volumeMounts": [{ "name": "x", "mountPath": "/x" }] },
                { "name": "b", "volumeMounts": [{ "name": "mine", "mountPath": MOUNT_PATH }] },
            ],
            "volumes": [{ "name": "x", "emptyDir": {} }],
        } });
        mount_token(&mut pod);
        let volume = &pod["spec"]["volumes"][1];
        let name = text(volume, "/name");
        assert!(
            name.starts_with(VOLUME) && name.len() == VOLUME.len() + 5,
            "{name}"
        );
        assert_eq!(list(volume, "/projected/sources").len(), 3);
        assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"][0]["name"], name);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][1]["readOnly"], true);
        assert_eq!(list(&pod, "/spec/containers/1/volumeMounts").len(), 1);
        let before = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, before, "once is enough");
    }

    #[test]
    fn a_volume_that_nobody_would_mount_is_not_added() {
        let mounts = json!([{ "name": "mine", "mountPath": MOUNT_PATH }]);
        let mut pod = json!({ "spec": { "containers": [{ "name": "a", "volumeMounts": mounts }] } });
        let before = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, before);
    }
}
