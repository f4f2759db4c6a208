//! `kill -9` in the middle of writing: what was acknowledged is there, and the log has no holes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use store::{Change, Options, Range, Store, Value};

const DIR: &str = "STORE_CRASH_DIR";
const WRITERS: usize = 8;
const KEYS: usize = 5;

/// The child: writes from several tasks and prints each write once it is acknowledged, until it is killed.
#[test]
#[ignore = "the process that the test below starts and kills"]
fn child_writes_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("started by the test below"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(open(&dir));
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer)));
        futures::future::join_all(writers).await;
    });
}

async fn write(store: Arc<Store>, writer: usize) {
    // Bounded, so that a child whose parent died ends by itself.
    for turn in 0..100_000 {
        let key = format!("/{writer}/{}", turn % KEYS);
        let value = Value::stamped(format!("{writer} {turn} "), 0);
        let current = store.get(&key).unwrap().map(|entry| entry.revision);
        let (what, entry) = match current {
            None => ("put", store.create(&key, value).await.unwrap()),
            Some(revision) if turn % 7 == 0 => ("del", store.delete(&key, value, revision).await.unwrap()),
            Some(revision) => ("put", store.update(&key, value, revision).await.unwrap()),
        };
        let value = String::from_utf8(entry.value.to_vec()).unwrap();
        let line = format!("ack|{what}|{}|{key}|{value}|\n", entry.revision);
        // One write of one line: what arrives is whole.
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("store.redb"), Options::default()).unwrap()
}

/// What the child printed: revision → what happened to which key, with which value.
type History = BTreeMap<u64, (String, String, String)>;

/// Runs the child until it has acknowledged `acks` writes, then kills it.
fn run_and_kill(dir: &Path, acks: usize, history: &mut History) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_writes_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut note = |line: String| -> bool {
        // The test harness prints its own line before ours, sometimes without ending it.
        let Some(start) = line.find("ack|") else {
            return false;
        };
        let fields: Vec<_> = line[start..].split('|').map(str::to_owned).collect();
        let [_, what, revision, key, value, _] = fields.try_into().unwrap();
        history.insert(revision.parse().unwrap(), (what, key, value));
        true
    };
    let mut seen = 0;
    while seen < acks {
        let line = lines.next().expect("the child writes on").unwrap();
        seen += usize::from(note(line));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        note(line.unwrap());
    }
}

#[test]
fn no_acknowledged_write_is_lost_to_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::new();
    for round in 0..6 {
        run_and_kill(dir.path(), 40 + round * 35, &mut history);
        let store = open(dir.path());
        compare(&store, &history);
    }
}

/// The log holds every acknowledged write at its revision, without holes, and the objects are what the log
/// says. (The log may hold more: writes that were durable, but not yet acknowledged.)
fn compare(store: &Store, history: &History) {
    let last = *history.keys().next_back().unwrap();
    assert!(store.revision() >= last, "acknowledged revisions are there");
    let mut watch = store.watch("/", 0).unwrap();
    let mut objects = BTreeMap::new();
    for revision in 1..=store.revision() {
        let event = watch.try_next().unwrap().expect("the log has no holes");
        assert_eq!(event.revision, revision);
        let value = String::from_utf8(event.value.to_vec()).unwrap();
        if let Some((what, key, acknowledged)) = history.get(&revision) {
            assert_eq!(*key, event.key);
            assert_eq!(*acknowledged, value);
            assert_eq!(what == "del", event.change == Change::Deleted);
        }
        if event.change == Change::Deleted {
            objects.remove(&event.key);
        } else {
            objects.insert(event.key.clone(), (value, revision));
        }
    }
    let all = Range {
        prefix: "/",
        ..Range::default()
    };
    let listed: BTreeMap<_, _> = store
        .list(&all, |_| true)
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| {
            let value = String::from_utf8(entry.value.to_vec()).unwrap();
            (entry.key, (value, entry.revision))
        })
        .collect();
    assert_eq!(listed, objects);
}
