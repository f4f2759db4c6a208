//! What every namespace has: the ServiceAccount `default`, and the ConfigMap `kube-root-ca.crt`
//! with which pods trust the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::error::{Doing, Error};
use crate::informer::{Cache, Informer, Key};
use crate::queue::{Queue, Reconcile};

pub(crate) const ACCOUNT: &str = "default";
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";
const CA_KEY: &str = "ca.crt";

#[derive(Debug, PartialEq)]
enum Action {
    CreateAccount,
    CreateRootCa,
    /// Somebody changed it: put it right, in this version.
    RestoreRootCa(Option<String>),
}

fn sync(
    namespace: &Namespace,
    account: Option<&ServiceAccount>,
    root_ca: Option<&ConfigMap>,
    ca_pem: &str,
) -> Vec<Action> {
    if namespace.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut actions = Vec::new();
    if account.is_none() {
        actions.push(Action::CreateAccount);
    }
    match root_ca {
        None => actions.push(Action::CreateRootCa),
        Some(map) if map.data.as_ref() != Some(&root_ca_data(ca_pem)) => {
            actions.push(Action::RestoreRootCa(map.metadata.resource_version.clone()));
        }
        Some(_) => {}
    }
    actions
}

fn root_ca_data(ca_pem: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(CA_KEY.to_owned(), ca_pem.to_owned())])
}

/// The controller of both.
#[derive(Clone)]
pub(crate) struct Controller {
    accounts_client: Client,
    root_ca_client: Client,
    ca_pem: Arc<str>,
    namespaces: Cache<Namespace>,
    accounts: Cache<ServiceAccount>,
    root_cas: Cache<ConfigMap>,
    queue: Queue<Key>,
}

impl Controller {
    /// `accounts` and `root_cas` need only watch objects of the two names.
    pub(crate) fn new(
        accounts_client: Client,
        root_ca_client: Client,
        ca_pem: &str,
        namespaces: &mut Informer<Namespace>,
        accounts: &mut Informer<ServiceAccount>,
        root_cas: &mut Informer<ConfigMap>,
    ) -> Self {
        let queue: Queue<Key> = Queue::default();
        let woken = queue.clone();
        namespaces.on_change(move |change| woken.add(Key::of(&**change.object())));
        let woken = queue.clone();
        let namespace_of = |meta: &ObjectMeta| meta.namespace.clone().unwrap_or_default();
        accounts.on_change(move |change| {
            woken.add(Key::new("", &namespace_of(&change.object().metadata)));
        });
        let woken = queue.clone();
        root_cas.on_change(move |change| {
            woken.add(Key::new("", &namespace_of(&change.object().metadata)));
        });
        Self {
            accounts_client,
            root_ca_client,
            ca_pem: ca_pem.into(),
            namespaces: namespaces.cache(),
            accounts: accounts.cache(),
            root_cas: root_cas.cache(),
            queue,
        }
    }
}

impl Reconcile for Controller {
    const NAME: &'static str = "namespace defaults";
    const WORKERS: usize = 4;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(namespace) = self.namespaces.get(&key) else {
            return Ok(());
        };
        let account = self.accounts.get(&Key::new(&key.name, ACCOUNT));
        let root_ca = self.root_cas.get(&Key::new(&key.name, ROOT_CA));
        let actions = sync(&namespace, account.as_deref(), root_ca.as_deref(), &self.ca_pem);
        for action in actions {
            let result = self.apply(&key.name, action).await;
            match result {
                // The cache lags; the watch will show it.
                Err(error) if error.is_already_exists() => {}
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }
}

impl Controller {
    async fn apply(&self, namespace: &str, action: Action) -> Result<(), Error> {
        let params = PostParams::default();
        match action {
            Action::CreateAccount => {
                let api: Api<ServiceAccount> = Api::namespaced(self.accounts_client.clone(), namespace);
                let account = ServiceAccount {
                    metadata: named(namespace, ACCOUNT, None),
                    ..ServiceAccount::default()
                };
                let created = api.create(&params, &account).await;
                created.doing(|| format!("create ServiceAccount {namespace}/{ACCOUNT}"))?;
            }
            Action::CreateRootCa => {
                let map = self.root_ca(namespace, None);
                let created = self.root_ca_api(namespace).create(&params, &map).await;
                created.doing(|| format!("create ConfigMap {namespace}/{ROOT_CA}"))?;
            }
            Action::RestoreRootCa(version) => {
                let map = self.root_ca(namespace, version);
                let api = self.root_ca_api(namespace);
                let restored = api.replace(ROOT_CA, &params, &map).await;
                restored.doing(|| format!("restore ConfigMap {namespace}/{ROOT_CA}"))?;
            }
        }
        Ok(())
    }

    fn root_ca_api(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.root_ca_client.clone(), namespace)
    }

    fn root_ca(&self, namespace: &str, version: Option<String>) -> ConfigMap {
        ConfigMap {
            metadata: named(namespace, ROOT_CA, version),
            data: Some(root_ca_data(&self.ca_pem)),
            ..ConfigMap::default()
        }
    }
}

fn named(namespace: &str, name: &str, resource_version: Option<String>) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        resource_version,
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn map(pem: &str) -> ConfigMap {
        ConfigMap {
            data: Some(root_ca_data(pem)),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn what_is_missing_is_created() {
        let actions = sync(&Namespace::default(), None, None, "pem");
        assert_eq!(actions, [Action::CreateAccount, Action::CreateRootCa]);
    }

    #[test]
    fn what_is_right_is_left_alone_and_what_was_changed_is_restored() {
        let (namespace, account) = (Namespace::default(), ServiceAccount::default());
        assert_eq!(sync(&namespace, Some(&account), Some(&map("pem")), "pem"), []);
        let restored = [Action::RestoreRootCa(None)];
        assert_eq!(
            sync(&namespace, Some(&account), Some(&map("other")), "pem"),
            restored
        );
        let mut more = map("pem");
        more.data.as_mut().unwrap().insert("x".to_owned(), "y".to_owned());
        assert_eq!(sync(&namespace, Some(&account), Some(&more), "pem"), restored);
    }

    #[test]
    fn a_namespace_that_goes_away_gets_nothing() {
        let mut namespace = Namespace::default();
        namespace.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(sync(&namespace, None, None, "pem"), []);
    }
}
