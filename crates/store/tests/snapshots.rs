//! Snapshots of a store that is in use, and stores made from them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use store::{Error, Options, Range, Reader, Restored, Store, Value, restore};

fn open(path: &Path) -> Store {
    Store::open(path, Options::default()).unwrap()
}

fn objects(store: &Store) -> BTreeMap<String, (u64, Vec<u8>)> {
    let all = Range {
        prefix: "/",
        ..Range::default()
    };
    let page = store.list(&all, |_| true).unwrap();
    let entries = page.entries.into_iter();
    entries
        .map(|entry| (entry.key, (entry.revision, entry.value.to_vec())))
        .collect()
}

fn put(snapshot: &[u8], path: &Path) -> Result<Restored, Error> {
    restore(snapshot, path, |_| {})
}

async fn filled(path: &Path, count: u64) -> Store {
    let store = open(path);
    for number in 0..count {
        let value = Value::plain(vec![number as u8; number as usize]);
        store.create(&format!("/{number:04}"), value).await.unwrap();
    }
    store.update("/0001", Value::plain("changed"), 2).await.unwrap();
    store.delete("/0000", Value::plain(""), 1).await.unwrap();
    store
}

#[tokio::test]
async fn a_snapshot_is_one_moment_of_a_store_that_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir.path().join("a")));
    store.create("/first", Value::plain("1")).await.unwrap();
    store.create("/last", Value::plain("1")).await.unwrap();
    // The last key always changes after the first.
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut first, mut last) = (1, 2);
            for round in 2..100 {
                let value = || Value::plain(round.to_string());
                first = store.update("/first", value(), first).await.unwrap().revision;
                last = store.update("/last", value(), last).await.unwrap().revision;
            }
        }
    });
    let mut round = 0;
    while round < 8 {
        let mut snapshot = Vec::new();
        let summary = store.save(&mut snapshot).unwrap();
        let path = dir.path().join(format!("b{round}"));
        put(&snapshot, &path).unwrap();
        let seen = objects(&open(&path));
        let number = |key: &str| -> u64 { std::str::from_utf8(&seen[key].1).unwrap().parse().unwrap() };
        let (first, last) = (number("/first"), number("/last"));
        assert!(first == last || first == last + 1, "{first} {last}");
        let newest = seen.values().map(|(revision, _)| *revision).max();
        assert_eq!(newest, Some(summary.revision));
        round += 1;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn a_restored_store_has_the_objects_and_tells_watches_to_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = filled(&path, 300).await;
    let (mut snapshot, before) = (Vec::new(), objects(&store));
    let summary = store.save(&mut snapshot).unwrap();
    assert_eq!((summary.revision, summary.objects), (302, 299));
    assert!(matches!(put(&snapshot, &path), Err(Error::Busy)), "it is in use");
    for number in 0..50 {
        store
            .create(&format!("/later/{number}"), Value::plain("x"))
            .await
            .unwrap();
    }
    let newest = store.revision();
    drop(store);

    let restored = put(&snapshot, &path).unwrap();
    assert_eq!(restored.summary, summary);
    let store = open(&path);
    assert_eq!(objects(&store), before);
    assert_eq!(store.revision(), restored.revision);
    for known in [0, 1, summary.revision, newest, restored.revision - 1] {
        assert!(
            matches!(store.watch("/", known), Err(Error::Compacted { .. })),
            "{known}"
        );
    }
    let mut watch = store.watch("/", restored.revision).unwrap();
    let entry = store.create("/new", Value::plain("x")).await.unwrap();
    assert_eq!(entry.revision, restored.revision + 1);
    assert_eq!(watch.next().await.unwrap().revision, entry.revision);
    drop((watch, store));

    // What was there is kept, and once more is later still.
    let replaced = restored.replaced.unwrap();
    assert_eq!(open(&replaced).revision(), newest);
    assert!(put(&snapshot, &path).unwrap().revision > entry.revision);
}

#[tokio::test]
async fn what_is_not_a_whole_snapshot_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = filled(&path, 30).await;
    let mut snapshot = Vec::new();
    store.save(&mut snapshot).unwrap();
    let before = objects(&store);
    drop(store);
    let read = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes)?;
        while reader.next()?.is_some() {}
        Ok(())
    };
    read(&snapshot).unwrap();
    let why = |outcome: Result<(), Error>| match outcome {
        Err(Error::Snapshot(why)) => why,
        other => panic!("{other:?}"),
    };
    for end in 0..snapshot.len() {
        assert!(why(read(&snapshot[..end])).contains("too early"), "cut at {end}");
    }
    for place in 0..snapshot.len() {
        let mut bent = snapshot.clone();
        bent[place] ^= 1 << (place % 8);
        why(read(&bent));
    }
    let refused = |bytes: &[u8]| why(put(bytes, &path).map(drop));
    refused(&snapshot[..snapshot.len() - 1]);
    snapshot[100] ^= 1;
    refused(&snapshot);
    assert!(refused(b"apiVersion: v1\nkind: List\nitems: []\n# more\n").contains("isn't a snapshot"));
    assert_eq!(objects(&open(&path)), before);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn revisions_that_could_not_go_on_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut snapshot = Vec::new();
    filled(&path, 3).await.save(&mut snapshot).unwrap();
    let before = objects(&open(&path));
    for revision in [u64::MAX, u64::MAX - 1_000_000_000, i64::MAX as u64] {
        let mut other = snapshot.clone();
        other[20..28].copy_from_slice(&revision.to_le_bytes());
        let end = other.len() - 32;
        let digest = Sha256::digest(&other[..end]);
        other[end..].copy_from_slice(&digest);
        let error = put(&other, &path).unwrap_err().to_string();
        assert!(error.contains("higher than any store's"), "{error}");
    }
    assert_eq!(objects(&open(&path)), before);
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("store.redb"), dir.path().join("other"));
    let mut snapshot = Vec::new();
    filled(&other, 3).await.save(&mut snapshot).unwrap();
    std::fs::write(&path, "rubbish").unwrap();
    let restored = put(&snapshot, &path).unwrap();
    assert_eq!(objects(&open(&path)).len(), 2);
    assert_eq!(std::fs::read(restored.replaced.unwrap()).unwrap(), b"rubbish");
    let mut reader = Reader::new(&snapshot[..]).unwrap();
    let keys = std::iter::from_fn(|| reader.next().unwrap()).map(|entry| entry.key);
    assert_eq!(keys.collect::<Vec<_>>(), ["/0001", "/0002"]);
}
