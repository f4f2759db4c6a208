//! Secrets of type `kubernetes.io/service-account-token`: they get a token of the account that their annotation
//! names, which doesn't expire, and go when the account goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::Kind;
use serde_json::{Value, json};

use super::claims::Reference;
use super::identity::Identity;
use crate::delete;
use crate::object::{self, text};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::update::{self, Part, Target};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The ConfigMap that holds the cluster's authority in every namespace, a moment after it was made.
const AUTHORITY: &str = "kube-root-ca.crt";
/// How often a Secret is looked at again that couldn't be completed.
const PATIENCE: Duration = Duration::from_millis(500);
const SECRETS: &str = "/registry/core/secrets/";
const ACCOUNTS: &str = "/registry/core/serviceaccounts/";

fn kind(plural: &str) -> &'static Kind {
    kinds::find("", "v1", plural).expect("the table has what core/v1 has")
}

/// An object of core/v1, where it is there.
fn look_up(server: &ApiServer, plural: &str, namespace: &str, name: &str) -> Option<Value> {
    let entry = server
        .store
        .get(&object::key(kind(plural), Some(namespace), name))
        .ok()??;
    object::parse(&entry.value).ok()
}

/// A Secret that holds a token.
pub(super) fn find(server: &ApiServer, namespace: &str, name: &str) -> Option<Value> {
    let secret = look_up(server, "secrets", namespace, name)?;
    let lives = text(&secret, "/metadata/deletionTimestamp").is_empty();
    (lives && text(&secret, "/type") == TYPE).then_some(secret)
}

/// The token in a Secret.
pub(super) fn token(secret: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(text(secret, "/data/token")).ok()
}

/// Completes such Secrets and takes away those without an account, until the server stops.
pub(crate) async fn keep(server: Arc<ApiServer>) {
    if server.tokens.is_none() {
        return;
    }
    loop {
        if let Err(error) = watch(&server).await {
            tracing::warn!(%error, "secrets with tokens of service accounts are read anew");
        }
        tokio::select! {
            () = server.stopping.cancelled() => return,
            () = tokio::time::sleep(PATIENCE) => {}
        }
    }
}

/// Looks at every such Secret once, and again when something about it changes.
async fn watch(server: &ApiServer) -> Result<(), store::Error> {
    let revision = server.store.revision();
    let mut secrets = server.store.watch(SECRETS, revision)?;
    let mut accounts = server.store.watch(ACCOUNTS, revision)?;
    let mut waiting = concerned(server, SECRETS)?;
    loop {
        let mut left = BTreeSet::new();
        for key in std::mem::take(&mut waiting) {
            if let Err(failure) = settle(server, &key).await {
                tracing::debug!(key, why = failure.message, "a token has to wait");
                left.insert(key);
            }
        }
        waiting = left;
        tokio::select! {
            () = server.stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(PATIENCE), if !waiting.is_empty() => {}
            event = secrets.next() => {
                let event = event?;
                if event.change != store::Change::Deleted && is_concerned(&event.value) {
                    waiting.insert(event.key.clone());
                }
            }
            event = accounts.next() => {
                let event = event?;
                let place = event.key.strip_prefix(ACCOUNTS).and_then(|place| place.split_once('/'));
                if let Some((namespace, _)) = place {
                    waiting.extend(concerned(server, &format!("{SECRETS}{namespace}/"))?);
                }
            }
        }
    }
}

/// The keys of such Secrets.
fn concerned(server: &ApiServer, prefix: &str) -> Result<BTreeSet<String>, store::Error> {
    let range = store::Range {
        prefix,
        ..store::Range::default()
    };
    let page = server.store.list(&range, is_concerned)?;
    Ok(page.entries.into_iter().map(|entry| entry.key).collect())
}

fn is_concerned(secret: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow, default)]
        kind: std::borrow::Cow<'a, str>,
    }
    serde_json::from_slice::<Head<'_>>(secret).is_ok_and(|head| head.kind == TYPE)
}

/// Completes a Secret, or takes it away.
async fn settle(server: &ApiServer, key: &str) -> Result<(), Failure> {
    let place = key.strip_prefix(SECRETS).and_then(|place| place.split_once('/'));
    let Some((namespace, name)) = place else {
        return Ok(());
    };
    let Some(secret) = find(server, namespace, name) else {
        return Ok(());
    };
    let annotation = |name: &str| {
        secret["metadata"]["annotations"][name]
            .as_str()
            .unwrap_or_default()
    };
    let account = look_up(server, "serviceaccounts", namespace, annotation(ACCOUNT));
    let uid = account
        .as_ref()
        .map(|account| text(account, "/metadata/uid"))
        .unwrap_or_default();
    let noted = annotation(ACCOUNT_UID);
    if uid.is_empty() || (!noted.is_empty() && noted != uid) {
        let options = delete::Options {
            uid: Some(text(&secret, "/metadata/uid").to_owned()),
            ..delete::Options::default()
        };
        let outcome = delete::delete(server, kind("secrets"), Some(namespace), name, &options).await;
        return match outcome {
            Err(failure) if failure.reason != "NotFound" => Err(failure),
            _ => Ok(()),
        };
    }
    complete(server, namespace, name, uid).await
}

async fn complete(server: &ApiServer, namespace: &str, name: &str, uid: &str) -> Result<(), Failure> {
    let authority = look_up(server, "configmaps", namespace, AUTHORITY);
    let authority = authority
        .as_ref()
        .map(|map| text(map, "/data/ca.crt"))
        .filter(|authority| !authority.is_empty())
        .ok_or_else(|| Failure::unavailable("the namespace has no authority yet"))?;
    let tokens = server
        .tokens
        .as_ref()
        .ok_or_else(|| Failure::unavailable("no tokens are given"))?;
    let identity = Identity::server();
    let target = Target {
        kind: kind("secrets"),
        namespace: Some(namespace),
        name,
        part: Part::Server,
        dry_run: false,
        manager: "kube-controller-manager",
        subresource: "",
        identity: &identity,
    };
    let outcome = update::update(server, target, |current| {
        let mut secret = current.clone();
        let account = Reference {
            name: current["metadata"]["annotations"][ACCOUNT]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            uid: uid.to_owned(),
        };
        object::child(&mut secret, "data");
        let mut data = json!({
            "ca.crt": STANDARD.encode(authority),
            "namespace": STANDARD.encode(namespace),
        });
        let kept = token(current).filter(|token| !token.is_empty());
        data["token"] = match kept {
            Some(_) => current["data"]["token"].clone(),
            None => {
                let made = tokens.issue_for_secret(namespace, name, account);
                STANDARD.encode(made.map_err(Failure::internal)?).into()
            }
        };
        for (key, value) in data.as_object().into_iter().flatten() {
            secret["data"][key] = value.clone();
        }
        secret["metadata"]["annotations"][ACCOUNT_UID] = uid.into();
        Ok(update::Change::To(secret))
    });
    match outcome.await {
        Err(failure) if failure.reason != "NotFound" => Err(failure),
        _ => Ok(()),
    }
}
