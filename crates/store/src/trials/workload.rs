//! Callers that get in each other's way, and note what they see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::history::{Got, Note, Want};
use crate::{Entry, Error, Store, Value};

const CALLERS: u64 = 4;
const KEYS: u64 = 6;

/// Calls until the store fails or `turns` are done, some at the same time. Numbers from `numbers` make calls and
/// values unique.
pub(super) async fn run(
    store: Arc<Store>,
    turns: u64,
    numbers: Arc<AtomicU64>,
    note: impl Fn(Note) + Clone + Send + Sync + 'static,
) {
    let callers = (0..CALLERS).map(|caller| {
        let (store, numbers, note) = (store.clone(), numbers.clone(), note.clone());
        tokio::spawn(async move {
            for turn in 0..turns {
                let number = numbers.fetch_add(2, Ordering::Relaxed);
                if !one(&store, caller * 7 + turn, number, &note).await {
                    break;
                }
            }
        })
    });
    futures::future::join_all(callers).await;
}

/// Reads a key that others work on too, and changes it as if nobody did; false when the store failed.
async fn one(store: &Store, turn: u64, number: u64, note: &impl Fn(Note)) -> bool {
    let key = format!("/{}", turn * turn % KEYS);
    note(Note::Begins(number, Want::Get { key: key.clone() }));
    let Ok(found) = store.get(&key) else { return false };
    let text = |entry: &Entry| String::from_utf8(entry.value.to_vec()).unwrap();
    let value = found.as_ref().map(|entry| (entry.revision, text(entry)));
    note(Note::Ends(number, Got::Value(value)));
    // The number makes it unique; what follows makes some values longer than a page.
    let value = format!("{number}{}", ".".repeat((number % 11 * 600) as usize));
    let want = match found {
        None => Want::Create { key, value },
        Some(entry) if turn.is_multiple_of(5) => Want::Delete {
            key,
            value,
            revision: entry.revision,
        },
        Some(entry) => Want::Update {
            key,
            value,
            revision: entry.revision,
        },
    };
    note(Note::Begins(number + 1, want.clone()));
    let outcome = match want {
        Want::Create { key, value } => store.create(&key, Value::plain(value)).await,
        Want::Update { key, value, revision } => store.update(&key, Value::plain(value), revision).await,
        Want::Delete { key, value, revision } => store.delete(&key, Value::plain(value), revision).await,
        Want::Get { .. } => unreachable!("it is a write"),
    };
    let got = match outcome {
        Ok(entry) => Got::Done(entry.revision),
        Err(Error::Exists) => Got::Exists,
        Err(Error::NotFound) => Got::NotFound,
        Err(Error::Conflict { current }) => Got::Conflict(current),
        // It may have happened or not.
        Err(_) => return false,
    };
    note(Note::Ends(number + 1, got));
    true
}
