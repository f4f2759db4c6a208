//! Random histories against a model that keeps every state there ever was.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{Change, Error, Options, Range, Store, Value};

/// Key → value and revision, as of one revision.
type State = BTreeMap<String, (Vec<u8>, u64)>;

#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    /// The flag: with the right revision, or a wrong one.
    Update(u8, bool),
    Delete(u8, bool),
    /// In thousandths of the current revision.
    Compact(u16),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u8).prop_map(Step::Create),
        6 => (0..12u8, prop::bool::weighted(0.9)).prop_map(|(key, right)| Step::Update(key, right)),
        4 => (0..12u8, prop::bool::weighted(0.9)).prop_map(|(key, right)| Step::Delete(key, right)),
        1 => (0..=1000u16).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

/// Three prefixes, one of which is the start of another.
fn key(number: u8) -> String {
    let prefix = ["/a/", "/a/b/", "/c/"][usize::from(number % 3)];
    format!("{prefix}{number}")
}

struct Model {
    /// Index: the revision.
    states: Vec<State>,
    changes: Vec<(String, Change)>,
    compacted: usize,
}

impl Model {
    fn revision(&self) -> usize {
        self.states.len() - 1
    }

    fn change(&mut self, key: &str, change: Change, value: Option<Vec<u8>>) {
        let revision = self.states.len() as u64;
        let mut state = self.states[self.revision()].clone();
        match value {
            Some(value) => state.insert(key.to_owned(), (value, revision)),
            None => state.remove(key),
        };
        self.states.push(state);
        self.changes.push((key.to_owned(), change));
    }
}

async fn take(store: &Store, model: &mut Model, step: &Step, number: usize) {
    let value = format!("value {number}").into_bytes();
    let current = |model: &Model, key: &str| {
        let state = &model.states[model.revision()];
        state.get(key).map(|(_, revision)| *revision)
    };
    match step {
        Step::Create(n) => {
            let key = key(*n);
            let outcome = store.create(&key, Value::plain(value.clone())).await;
            match current(model, &key) {
                None => {
                    assert_eq!(outcome.unwrap().revision as usize, model.states.len());
                    model.change(&key, Change::Created, Some(value));
                }
                Some(_) => assert!(matches!(outcome, Err(Error::Exists))),
            }
        }
        Step::Update(n, right) | Step::Delete(n, right) => {
            let key = key(*n);
            let current = current(model, &key);
            let expected = current.unwrap_or(1) + u64::from(!right);
            let update = matches!(step, Step::Update(..));
            let outcome = if update {
                store.update(&key, Value::plain(value.clone()), expected).await
            } else {
                store.delete(&key, Value::plain(value.clone()), expected).await
            };
            match current {
                None => assert!(matches!(outcome, Err(Error::NotFound))),
                Some(_) if !right => assert!(matches!(outcome, Err(Error::Conflict { .. }))),
                Some(_) if update => {
                    outcome.unwrap();
                    model.change(&key, Change::Updated, Some(value));
                }
                Some(_) => {
                    outcome.unwrap();
                    model.change(&key, Change::Deleted, None);
                }
            }
        }
        Step::Compact(share) => {
            let revision = model.revision() * usize::from(*share) / 1000;
            store.compact(revision as u64).await.unwrap();
            model.compacted = model.compacted.max(revision);
        }
        Step::Reopen => unreachable!("the caller reopens"),
    }
}

/// Every readable revision, listed whole and in pages, is what the model says; compacted ones are refused.
fn compare_lists(store: &Store, model: &Model, limit: usize) {
    for (revision, state) in model.states.iter().enumerate() {
        for prefix in ["/", "/a/", "/a/b/", "/c/", "/none/"] {
            let expected: Vec<_> = state
                .iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .map(|(key, (value, revision))| (key.clone(), value.clone(), *revision))
                .collect();
            let mut seen = Vec::new();
            loop {
                let after = seen.last().map(|(key, _, _): &(String, _, _)| key.clone());
                let range = Range {
                    prefix,
                    after: after.as_deref(),
                    limit,
                    revision: Some(revision as u64),
                };
                let page = store.list(&range, |_| true);
                if revision < model.compacted {
                    assert!(matches!(page, Err(Error::Compacted { .. })));
                    break;
                }
                let page = page.unwrap();
                seen.extend(
                    page.entries
                        .into_iter()
                        .map(|entry| (entry.key, entry.value.to_vec(), entry.revision)),
                );
                assert_eq!(page.remaining, expected.len() - seen.len());
                if page.remaining == 0 {
                    assert_eq!(seen, expected, "{prefix} at {revision}");
                    break;
                }
            }
        }
    }
}

/// A watch from any revision sees exactly what came after it.
fn compare_watches(store: &Store, model: &Model) {
    for start in model.compacted..=model.revision() {
        let mut watch = store.watch("/a/", start as u64).unwrap();
        let expected = (start + 1..)
            .zip(&model.changes[start..])
            .filter(|(_, (key, _))| key.starts_with("/a/"));
        for (revision, (key, change)) in expected {
            let event = watch.try_next().unwrap().unwrap();
            assert_eq!((event.revision as usize, &event.key), (revision, key));
            assert_eq!(event.change, *change);
            let before = model.states[revision - 1].get(key);
            assert_eq!(
                (event.previous.to_vec(), event.previous_revision),
                before.cloned().unwrap_or_default()
            );
        }
        assert!(watch.try_next().unwrap().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_store_behaves_like_a_list_of_states(
        steps in prop::collection::vec(step(), 1..60),
        limit in 0..4usize,
        window_bytes in prop_oneof![Just(0usize), Just(600), Just(1 << 20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store.redb");
            let options = Options { window_bytes, ..Options::default() };
            let mut store = Store::open(&path, options.clone()).unwrap();
            let mut model = Model { states: vec![State::new()], changes: Vec::new(), compacted: 0 };
            for (number, step) in steps.iter().enumerate() {
                if matches!(step, Step::Reopen) {
                    drop(store);
                    store = Store::open(&path, options.clone()).unwrap();
                } else {
                    take(&store, &mut model, step, number).await;
                }
            }
            assert_eq!(store.revision() as usize, model.revision());
            compare_lists(&store, &model, limit);
            compare_watches(&store, &model);
        });
    }
}
