//! Following objects of one kind, for as long as the agent lives and however often the API goes away.
//!
//! ```text
//! API ──list, watch──► follow ──► Follower ──put, gone, listed──► whoever keeps what is known
//! ```

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use go_json::Read;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// A kind of object that can be followed.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static
{
}

impl<K> Watched for K where K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static {}

/// An object's namespace and name.
pub(crate) type Key = (String, String);

/// The namespace, empty if there is none, and the name of an object.
pub(crate) fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// Gives `step` every event until `shutdown`. While the API is away there is none, and it is tried again.
pub(crate) async fn follow<K: Watched>(
    api: Api<K>,
    config: watcher::Config,
    mut step: impl FnMut(Event<K>),
    shutdown: &CancellationToken,
) {
    let mut events = pin!(watcher::watcher(api, config));
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
    let kind = K::kind(&());
    let mut away: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => {
                backoff.reset();
                if let Some(since) = away.take() {
                    info!(%kind, seconds = since.elapsed().as_secs(), "the API answers again");
                }
                step(event);
            }
            Some(Err(error)) => {
                if away.is_none() {
                    away = Some(Instant::now());
                    warn!(%kind, %error, "the API doesn't answer: what is known stays, and it is tried again");
                }
                debug!(%kind, %error, "watching");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(backoff.next()) => {}
                }
            }
            // The stream has no end of its own.
            None => return,
        }
    }
}

/// An event of an object that was read by Go's rules.
pub(crate) fn plain<K>(event: Event<Read<K>>) -> Event<K> {
    match event {
        Event::Apply(Read(object)) => Event::Apply(object),
        Event::Delete(Read(object)) => Event::Delete(object),
        Event::Init => Event::Init,
        Event::InitApply(Read(object)) => Event::InitApply(object),
        Event::InitDone => Event::InitDone,
    }
}

/// Whoever keeps what is known of a kind.
pub(crate) trait Keeps<K> {
    /// Takes an object in, as it is now.
    fn put(&self, object: K);
    /// An object is gone; this is how it was last.
    fn gone(&self, object: &K);
    /// A list is complete: what isn't in it is gone.
    fn listed(&self, all: &BTreeSet<Key>);
}

/// One watch's progress: what a list that is being read has had so far.
#[derive(Debug)]
pub(crate) struct Follower<'a, T> {
    keeper: &'a T,
    relisting: Option<BTreeSet<Key>>,
}

impl<'a, T> Follower<'a, T> {
    /// Before the first event.
    pub(crate) fn new(keeper: &'a T) -> Follower<'a, T> {
        Follower {
            keeper,
            relisting: None,
        }
    }

    /// Takes an event in.
    pub(crate) fn step<K: Resource>(&mut self, event: Event<K>)
    where
        T: Keeps<K>,
    {
        match event {
            Event::Init => self.relisting = Some(BTreeSet::new()),
            Event::InitApply(object) => {
                self.relisting.get_or_insert_default().insert(key(&object));
                self.keeper.put(object);
            }
            Event::InitDone => self.keeper.listed(&self.relisting.take().unwrap_or_default()),
            Event::Apply(object) => self.keeper.put(object),
            Event::Delete(object) => self.keeper.gone(&object),
        }
    }
}
