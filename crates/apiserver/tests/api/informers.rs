//! kube-rs's informers under churn: in the end they know what is there. `RIPSTOP_CHURN` says for how many seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use rand::Rng;
use serde_json::json;
use testkit::eventually_async;

use crate::support::Running;

const WRITERS: usize = 4;
const NAMES: usize = 40;

/// Name → version.
type Known = BTreeMap<String, String>;

fn known<'a>(objects: impl IntoIterator<Item = &'a ConfigMap>) -> Known {
    let entry = |object: &ConfigMap| {
        let metadata = object.metadata.clone();
        (metadata.name.unwrap(), metadata.resource_version.unwrap())
    };
    objects.into_iter().map(entry).collect()
}

/// Creates, changes, relabels and deletes until told to stop; how often.
async fn churn(api: Api<ConfigMap>, stop: Arc<AtomicBool>) -> u64 {
    let mut turns = 0;
    while !stop.load(Ordering::Relaxed) {
        let (name, dice, colour) = {
            let mut rng = rand::rng();
            let name = format!("c{}", rng.random_range(0..NAMES));
            (
                name,
                rng.random_range(0..10),
                ["red", "blue"][rng.random_range(0..2)],
            )
        };
        let outcome = match dice {
            0..3 => {
                let object = json!({ "metadata": { "name": name, "labels": { "colour": colour } } });
                let object = serde_json::from_value(object).unwrap();
                api.create(&PostParams::default(), &object).await.map(drop)
            }
            3..5 => api.delete(&name, &Default::default()).await.map(drop),
            _ => {
                let patch = json!({ "metadata": { "labels": { "colour": colour } }, "data": { "n": turns.to_string() } });
                let patch = Patch::Merge(patch);
                api.patch(&name, &PatchParams::default(), &patch).await.map(drop)
            }
        };
        match outcome {
            Ok(()) => turns += 1,
            // Others work on the same names.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => panic!("{error}"),
        }
    }
    turns
}

/// An informer: what it knows, and how often it had to begin anew.
struct Informer {
    store: reflector::Store<ConfigMap>,
    begun: Arc<AtomicU64>,
}

impl Informer {
    fn start(client: kube::Client, config: watcher::Config) -> Informer {
        let (store, writer) = reflector::store();
        let begun = Arc::<AtomicU64>::default();
        let count = begun.clone();
        let events = watcher(Api::<ConfigMap>::namespaced(client, "default"), config);
        let events = events.default_backoff().reflect(writer);
        tokio::spawn(async move {
            tokio::pin!(events);
            while let Some(event) = events.next().await {
                // An error is a reason to begin anew, which the watcher does by itself.
                if let Ok(watcher::Event::Init) = event {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Informer { store, begun }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn informers_know_in_the_end_what_is_there() {
    let seconds = std::env::var("RIPSTOP_CHURN").map_or(8, |text| text.parse().unwrap());
    let running = Running::start().await;
    let over_tls = running.over_tls("admin", "system:masters").await;
    let api = Api::<ConfigMap>::namespaced(running.admin(), "default");
    let all = watcher::Config::default;
    let informers = [
        ("in process", "", Informer::start(running.admin(), all())),
        (
            "over TLS, short watches",
            "",
            Informer::start(over_tls.clone(), all().timeout(1)),
        ),
        (
            "by streaming",
            "",
            Informer::start(over_tls.clone(), all().streaming_lists().timeout(3)),
        ),
        (
            "in pages",
            "",
            Informer::start(over_tls.clone(), all().page_size(7).timeout(2)),
        ),
        (
            "of a selection",
            "colour=red",
            Informer::start(over_tls, all().labels("colour=red").timeout(2)),
        ),
    ];
    let stop = Arc::<AtomicBool>::default();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| tokio::spawn(churn(api.clone(), stop.clone())))
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(700)).await;
        // Watches that resume from before this are told to begin anew.
        running.server.forget_history().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut turns = 0;
    for writer in writers {
        turns += writer.await.unwrap();
    }
    assert!(turns > 100, "{turns} changes");
    for (what, selector, informer) in informers {
        let truth = api.list(&ListParams::default().labels(selector)).await.unwrap();
        let truth = known(&truth.items);
        let matches = async || known(informer.store.state().iter().map(|object| &**object)) == truth;
        eventually_async(Duration::from_secs(30), matches).await;
        let begun = informer.begun.load(Ordering::Relaxed);
        println!(
            "{what}: {} objects after {turns} changes, begun {begun} times",
            truth.len()
        );
    }
}
