//! What writers, readers and watches may rely on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use store::{Change, Error, Options, Range, Store, Value, Write};

fn open(dir: &tempfile::TempDir) -> Store {
    open_with(dir, Options::default())
}

fn open_with(dir: &tempfile::TempDir, options: Options) -> Store {
    Store::open(&dir.path().join("store.redb"), options).unwrap()
}

fn text(value: &str) -> Value {
    Value::plain(value)
}

fn keys(store: &Store, range: Range<'_>) -> Vec<String> {
    let page = store.list(&range, |_| true).unwrap();
    page.entries.into_iter().map(|entry| entry.key).collect()
}

#[tokio::test]
async fn a_write_is_read_back_with_its_revision_stamped_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.create("/a", text("first")).await.unwrap();
    let entry = store.create("/b", Value::stamped("rev=!", 4)).await.unwrap();
    assert_eq!((entry.revision, &entry.value[..]), (2, &b"rev=2!"[..]));
    assert_eq!(store.get("/b").unwrap(), Some(entry));
}

#[tokio::test]
async fn a_write_that_expects_something_else_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.create("/a", text("1")).await.unwrap();
    assert!(matches!(store.create("/a", text("2")).await, Err(Error::Exists)));
    assert!(matches!(
        store.update("/a", text("2"), 7).await,
        Err(Error::Conflict { current: 1 })
    ));
    assert!(matches!(
        store.update("/b", text("2"), 1).await,
        Err(Error::NotFound)
    ));
    assert!(matches!(
        store.delete("/a", text("2"), 2).await,
        Err(Error::Conflict { current: 1 })
    ));
    assert_eq!(store.revision(), 1);
    assert_eq!(&store.get("/a").unwrap().unwrap().value[..], b"1");
}

#[tokio::test]
async fn writes_that_belong_together_are_made_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let create = |key: &str| Write::Create {
        key: key.into(),
        value: text(key),
    };
    store.write(vec![create("/a"), create("/b")]).await.unwrap();
    let replace = |revision| {
        let last = text("");
        let delete = Write::Delete {
            key: "/a".into(),
            last,
            revision,
        };
        vec![create("/c"), delete, create("/d")]
    };
    for (refused, why) in [
        (vec![create("/c"), create("/b")], "one exists"),
        (replace(7), "one has changed"),
    ] {
        assert!(store.write(refused).await.is_err(), "{why}");
        assert_eq!(keys(&store, Range::default()), ["/a", "/b"], "{why}");
        assert_eq!(store.revision(), 2);
    }
    let entries = store.write(replace(1)).await.unwrap();
    let revisions: Vec<_> = entries.iter().map(|entry| entry.revision).collect();
    assert_eq!(revisions, [3, 4, 5]);
    assert_eq!(keys(&store, Range::default()), ["/b", "/c", "/d"]);
}

#[tokio::test]
async fn of_many_writers_that_read_the_same_revision_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(&dir));
    store.create("/a", text("0")).await.unwrap();
    let tries = (0..50).map(|i| {
        let store = store.clone();
        tokio::spawn(async move { store.update("/a", text(&i.to_string()), 1).await.is_ok() })
    });
    let won = futures::future::join_all(tries).await;
    assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
    assert_eq!(store.revision(), 2);
}

#[tokio::test]
async fn a_prefix_is_listed_in_order_and_in_pages_of_one_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for key in ["/p/c", "/p/a", "/p/e", "/q/a", "/p/b", "/o/z"] {
        store.create(key, text(key)).await.unwrap();
    }
    let first = Range {
        prefix: "/p/",
        limit: 2,
        ..Range::default()
    };
    let page = store.list(&first, |_| true).unwrap();
    assert_eq!((page.revision, page.remaining), (6, 2));

    // What happens meanwhile doesn't show on the next page.
    store.create("/p/bb", text("new")).await.unwrap();
    store.update("/p/e", text("changed"), 3).await.unwrap();
    store.delete("/p/c", text("gone"), 1).await.unwrap();
    let rest = Range {
        prefix: "/p/",
        after: Some("/p/b"),
        limit: 0,
        revision: Some(6),
    };
    let page = store.list(&rest, |_| true).unwrap();
    let seen: Vec<_> = page
        .entries
        .iter()
        .map(|entry| (entry.key.as_str(), &entry.value[..], entry.revision))
        .collect();
    assert_eq!(seen, [("/p/c", &b"/p/c"[..], 1), ("/p/e", &b"/p/e"[..], 3)]);
    let now = Range {
        prefix: "/p/",
        ..Range::default()
    };
    assert_eq!(keys(&store, now), ["/p/a", "/p/b", "/p/bb", "/p/e"]);
}

#[tokio::test]
async fn what_a_selection_turns_down_does_not_count_towards_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for i in 0..10 {
        store
            .create(&format!("/k{i}"), text(if i % 3 == 0 { "yes" } else { "no" }))
            .await
            .unwrap();
    }
    let range = Range {
        prefix: "/",
        limit: 3,
        ..Range::default()
    };
    let page = store.list(&range, |value| value == b"yes").unwrap();
    let keys: Vec<_> = page.entries.iter().map(|entry| &entry.key[..]).collect();
    assert_eq!(keys, ["/k0", "/k3", "/k6"]);
    assert_eq!(page.remaining, 3);
}

#[tokio::test]
async fn a_watch_replays_the_past_and_follows_the_present() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.create("/p/a", text("1")).await.unwrap();
    store.create("/q/a", text("other")).await.unwrap();
    store.update("/p/a", text("2"), 1).await.unwrap();
    let mut watch = store.watch("/p/", 1).unwrap();
    let event = watch.next().await.unwrap();
    assert_eq!((event.revision, event.change), (3, Change::Updated));
    assert_eq!(
        (&event.value[..], &event.previous[..], event.previous_revision),
        (&b"2"[..], &b"1"[..], 1)
    );
    assert!(watch.try_next().unwrap().is_none());
    let waiting = tokio::spawn(async move { watch.next().await.unwrap() });
    store.delete("/p/a", text("last"), 3).await.unwrap();
    let event = waiting.await.unwrap();
    assert_eq!((event.change, &event.value[..]), (Change::Deleted, &b"last"[..]));
}

#[tokio::test]
async fn a_watch_knows_how_far_it_has_come_though_nothing_matched() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut watch = store.watch("/p/", 0).unwrap();
    for i in 0..5 {
        store.create(&format!("/q/{i}"), text("x")).await.unwrap();
    }
    assert!(watch.try_next().unwrap().is_none());
    assert_eq!(watch.revision(), 5);
}

#[tokio::test]
async fn a_watch_that_falls_behind_memory_reads_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        window_bytes: 2000,
        ..Options::default()
    };
    let store = open_with(&dir, options);
    let mut watch = store.watch("/", 0).unwrap();
    for i in 0..600 {
        store.create(&format!("/{i:04}"), text("value")).await.unwrap();
    }
    for revision in 1..=600 {
        assert_eq!(watch.next().await.unwrap().revision, revision);
    }
    assert!(watch.try_next().unwrap().is_none());
}

#[tokio::test]
async fn a_watch_that_falls_behind_compaction_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut watch = store.watch("/", 0).unwrap();
    for i in 0..5 {
        store.create(&format!("/{i}"), text("x")).await.unwrap();
    }
    store.compact(3).await.unwrap();
    assert!(matches!(
        watch.next().await,
        Err(Error::Compacted {
            requested: 0,
            compacted: 3
        })
    ));
    assert!(matches!(store.watch("/", 2), Err(Error::Compacted { .. })));
    assert_eq!(store.watch("/", 3).unwrap().next().await.unwrap().revision, 4);
    let at = |revision| Range {
        prefix: "/",
        revision: Some(revision),
        ..Range::default()
    };
    assert!(matches!(
        store.list(&at(2), |_| true),
        Err(Error::Compacted { .. })
    ));
    assert_eq!(keys(&store, at(3)), ["/0", "/1", "/2"]);
    assert!(matches!(
        store.list(&at(9), |_| true),
        Err(Error::Future {
            requested: 9,
            current: 5
        })
    ));
}

#[tokio::test]
async fn old_events_are_compacted_by_age_and_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let by_number = Options {
        keep_revisions: 10,
        ..Options::default()
    };
    let store = open_with(&dir, by_number);
    for i in 0..20 {
        store.create(&format!("/{i}"), text("x")).await.unwrap();
    }
    assert!(matches!(store.watch("/", 5), Err(Error::Compacted { .. })));
    assert!(store.watch("/", 10).is_ok());
    drop(store);

    let by_age = Options {
        keep_for: Duration::ZERO,
        ..Options::default()
    };
    let store = open_with(&dir, by_age);
    store.create("/late", text("x")).await.unwrap();
    assert!(matches!(store.watch("/", 19), Err(Error::Compacted { .. })));
    assert!(store.watch("/", 20).is_ok());
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.create("/a", text("1")).await.unwrap();
    store.update("/a", text("2"), 1).await.unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(store.revision(), 2);
    assert_eq!(store.get("/a").unwrap().unwrap().revision, 2);
    let mut watch = store.watch("/", 0).unwrap();
    assert_eq!(watch.next().await.unwrap().change, Change::Created);
    assert_eq!(watch.next().await.unwrap().change, Change::Updated);
    assert_eq!(store.create("/b", text("3")).await.unwrap().revision, 3);
}

#[tokio::test]
async fn a_watch_ends_when_the_store_closes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut watch = store.watch("/", 0).unwrap();
    let waiting = tokio::spawn(async move { watch.next().await });
    drop(store);
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)));
}

#[tokio::test]
async fn reached_waits_for_a_revision_to_come() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(&dir));
    let waiter = {
        let store = store.clone();
        tokio::spawn(async move { store.reached(1).await })
    };
    store.create("/a", text("1")).await.unwrap();
    waiter.await.unwrap();
}
