//! CustomResourceDefinitions: the kinds that they make, the names that they get, and the end of both.
//!
//! Whoever was told that a definition is written finds its kind served, in discovery and in OpenAPI, with the
//! next request: names are settled as part of the write, one write at a time, and the kinds are a view of the
//! store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinds::Kind;
use serde_json::{Value, json};
use store::{Change, Store};
use tokio::sync::{Mutex, MutexGuard};

use crate::auth::identity::Identity;
use crate::auth::view::{Content, View};
use crate::delete;
use crate::object::{self, list, text};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::update::{self, Part, Target};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// Holds a definition until there are no objects of its kind any more.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How often objects that are being deleted are looked at again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Every definition, and the kinds it makes.
pub(crate) struct Definitions {
    view: View<Index>,
    turn: Mutex<()>,
}

#[derive(Default)]
struct Index {
    kinds: BTreeMap<String, Vec<Kind>>,
    /// All of them in the order of discovery.
    sorted: Arc<[Kind]>,
    /// Counts the changes.
    edition: u64,
}

impl Content for Index {
    const PREFIX: &'static str = PREFIX;

    fn put(&mut self, key: &str, object: &[u8], _: Change) {
        let definition: Value = serde_json::from_slice(object).unwrap_or_default();
        self.kinds.insert(key.to_owned(), kinds::kinds_of(&definition));
        self.changed();
    }

    fn remove(&mut self, key: &str) {
        self.kinds.remove(key);
        self.changed();
    }
}

impl Index {
    fn changed(&mut self) {
        self.edition += 1;
        // A group and version of the table is the table's alone.
        let is_free = |kind: &&Kind| {
            !kinds::all()
                .iter()
                .any(|own| own.api_version() == kind.api_version())
        };
        let mut sorted: Vec<Kind> = self.kinds.values().flatten().filter(is_free).cloned().collect();
        sorted.sort_by(|a, b| {
            let versions = || kinds::compare_versions(a.version(), b.version());
            a.group()
                .cmp(b.group())
                .then_with(versions)
                .then_with(|| a.plural().cmp(b.plural()))
        });
        self.sorted = sorted.into();
    }
}

impl Definitions {
    pub(crate) fn new(store: &Store) -> Result<Definitions, store::Error> {
        Ok(Definitions {
            view: View::new(store)?,
            turn: Mutex::default(),
        })
    }

    /// Every kind that definitions make, in the order of discovery.
    pub(crate) fn kinds(&self, store: &Store) -> Result<Arc<[Kind]>, store::Error> {
        self.view.ask(store, |index| index.sorted.clone())
    }

    /// The same, and a number that changes with them.
    pub(crate) fn edition(&self, store: &Store) -> Result<(u64, Arc<[Kind]>), store::Error> {
        self.view
            .ask(store, |index| (index.edition, index.sorted.clone()))
    }
}

impl ApiServer {
    /// The kind behind a resource's path: of the table, or else a definition's.
    pub(crate) fn kind(&self, group: &str, version: &str, plural: &str) -> Result<Option<Kind>, Failure> {
        if let Some(kind) = kinds::find(group, version, plural) {
            return Ok(Some(kind.clone()));
        }
        let kinds = self.definitions.kinds(&self.store)?;
        let found = kinds
            .iter()
            .find(|kind| kind.version() == version && kind.is(group, plural));
        Ok(found.cloned())
    }
}

fn is_definition(kind: &Kind) -> bool {
    kind.is(GROUP, PLURAL)
}

/// The right to write a definition; nothing for other kinds.
pub(crate) async fn turn<'a>(server: &'a ApiServer, kind: &Kind) -> Option<MutexGuard<'a, ()>> {
    match is_definition(kind) {
        true => Some(server.definitions.turn.lock().await),
        false => None,
    }
}

/// Gives a definition that is about to be written the names that are free.
pub(crate) fn settle(server: &ApiServer, kind: &Kind, definition: &mut Value) -> Result<(), Failure> {
    if is_definition(kind) {
        kinds::settle_definition(definition, &all(server)?, &object::now());
    }
    Ok(())
}

/// Gives the others of a definition's group the names that its writing has set free.
pub(crate) async fn release(server: &ApiServer, kind: &Kind, written: &Value) -> Result<(), Failure> {
    if !is_definition(kind) {
        return Ok(());
    }
    let waits = |other: &&Value| {
        let mut conditions = list(other, "/status/conditions").iter();
        text(other, "/spec/group") == text(written, "/spec/group")
            && text(other, "/metadata/name") != text(written, "/metadata/name")
            && conditions
                .any(|condition| condition["type"] == "NamesAccepted" && condition["status"] == "False")
    };
    for waiting in all(server)?.iter().filter(waits) {
        let key = object::key(kind, None, text(waiting, "/metadata/name"));
        let Some(entry) = server.store.get(&key)? else {
            continue;
        };
        let before = object::parse(&entry.value)?;
        let mut definition = before.clone();
        kinds::settle_definition(&mut definition, &all(server)?, &object::now());
        if definition != before {
            server
                .store
                .update(&key, object::encode(kind, definition), entry.revision)
                .await?;
        }
    }
    Ok(())
}

fn all(server: &ApiServer) -> Result<Vec<Value>, Failure> {
    let range = store::Range {
        prefix: PREFIX,
        ..store::Range::default()
    };
    let page = server.store.list(&range, |_| true)?;
    page.entries
        .iter()
        .map(|entry| object::parse(&entry.value))
        .collect()
}

/// What the deletion of a definition begins with: its objects go first.
pub(crate) fn hold(kind: &Kind, definition: &mut Value) {
    let first = text(definition, "/metadata/deletionTimestamp").is_empty();
    if !is_definition(kind) || !first {
        return;
    }
    let mut finalizers = list(definition, "/metadata/finalizers").to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.into());
        object::metadata(definition).insert("finalizers".into(), finalizers.into());
    }
    let message = "CustomResource deletion is pending";
    terminating(definition, "True", "InstanceDeletionPending", message);
}

fn terminating(definition: &mut Value, status: &str, reason: &str, message: &str) {
    kinds::set_definition_condition(
        definition,
        "Terminating",
        (status, reason, message),
        &object::now(),
    );
}

/// Deletes the objects of definitions that are being deleted, and then lets these go, until the server stops.
pub(crate) async fn clean_up(server: Arc<ApiServer>) {
    loop {
        let watch = server.store.watch(PREFIX, server.store.revision());
        let done = match clean(&server).await {
            Ok(done) => done,
            Err(failure) => {
                tracing::warn!(
                    error = failure.message,
                    "objects of deleted definitions are still there"
                );
                false
            }
        };
        let change = async {
            match watch {
                Ok(mut watch) if done => _ = watch.next().await,
                _ => tokio::time::sleep(PATIENCE).await,
            }
        };
        tokio::select! {
            () = server.stopping.cancelled() => return,
            () = change => {}
        }
    }
}

/// Whether no definition waits for its objects to go.
async fn clean(server: &ApiServer) -> Result<bool, Failure> {
    let mut done = true;
    for definition in all(server)? {
        let held = list(&definition, "/metadata/finalizers")
            .iter()
            .any(|finalizer| finalizer == FINALIZER);
        if text(&definition, "/metadata/deletionTimestamp").is_empty() || !held {
            continue;
        }
        match kinds::kept_kind_of(&definition) {
            Some(kind) if !delete_objects(server, &kind).await? => done = false,
            _ => let_go(server, text(&definition, "/metadata/name")).await?,
        }
    }
    Ok(done)
}

/// Whether all are gone; finalizers may hold some.
async fn delete_objects(server: &ApiServer, kind: &Kind) -> Result<bool, Failure> {
    let prefix = object::prefix(kind, None);
    let range = store::Range {
        prefix: &prefix,
        ..store::Range::default()
    };
    let mut gone = true;
    for entry in server.store.list(&range, |_| true)?.entries {
        let place = &entry.key[prefix.len()..];
        let (namespace, name) = match place.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, place),
        };
        match delete::delete(server, kind, namespace, name, &delete::Options::default()).await {
            Ok(delete::Outcome::Marked(_)) => gone = false,
            Err(failure) if failure.reason != "NotFound" => return Err(failure),
            _ => {}
        }
    }
    Ok(gone)
}

async fn let_go(server: &ApiServer, name: &str) -> Result<(), Failure> {
    let kind = kinds::find(GROUP, "v1", PLURAL).expect("the table has CustomResourceDefinition");
    let identity = Identity::server();
    let target = Target {
        kind,
        namespace: None,
        name,
        part: Part::Server,
        dry_run: false,
        manager: "kube-apiserver",
        subresource: "",
        identity: &identity,
    };
    let outcome = update::update(server, target, |current| {
        let mut definition = current.clone();
        let mut finalizers = list(current, "/metadata/finalizers").to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        object::assign(
            &mut definition["metadata"],
            "finalizers",
            Some(&json!(finalizers)),
        );
        let message = "removed all instances";
        terminating(&mut definition, "False", "InstanceDeletionCompleted", message);
        Ok(update::Change::To(definition))
    });
    match outcome.await {
        Err(failure) if failure.reason != "NotFound" => Err(failure),
        _ => Ok(()),
    }
}
