//! `kill -9` in the middle of writing, with real processes and a real file.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::history::{Got, History, Note, Want};
use super::{times, workload};
use crate::{Options, Store};

const DIR: &str = "STORE_KILL_DIR";
const FIRST: &str = "STORE_KILL_FIRST";

/// The child: works and prints what it sees, until it is killed.
#[test]
#[ignore = "the process that the test below starts and kills"]
fn child_writes_until_it_is_killed() {
    let variable = |name| std::env::var(name).expect("started by the test below");
    let (dir, first) = (PathBuf::from(variable(DIR)), variable(FIRST).parse().unwrap());
    let store = Arc::new(open(&dir));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let print = |note: Note| {
        // One write of one line: what arrives is whole.
        let line = format!("note|{}|\n", write(&note));
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    };
    // Bounded, so that a child whose parent died ends by itself.
    runtime.block_on(workload::run(
        store,
        30_000,
        Arc::new(AtomicU64::new(first)),
        print,
    ));
}

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("store.redb"), Options::default()).unwrap()
}

fn write(note: &Note) -> String {
    match note {
        Note::Begins(call, Want::Get { key }) => format!("{call}|get|{key}"),
        Note::Begins(call, Want::Create { key, value }) => format!("{call}|create|{key}|{value}"),
        Note::Begins(call, Want::Update { key, value, revision }) => {
            format!("{call}|update|{key}|{value}|{revision}")
        }
        Note::Begins(call, Want::Delete { key, value, revision }) => {
            format!("{call}|delete|{key}|{value}|{revision}")
        }
        Note::Ends(call, Got::Done(revision)) => format!("{call}|done|{revision}"),
        Note::Ends(call, Got::Exists) => format!("{call}|exists"),
        Note::Ends(call, Got::NotFound) => format!("{call}|missing"),
        Note::Ends(call, Got::Conflict(revision)) => format!("{call}|conflict|{revision}"),
        Note::Ends(call, Got::Value(None)) => format!("{call}|none"),
        Note::Ends(call, Got::Value(Some((revision, value)))) => format!("{call}|value|{revision}|{value}"),
    }
}

fn read(line: &str) -> Note {
    let fields: Vec<_> = line.split('|').collect();
    let number = |field: &str| field.parse::<u64>().unwrap();
    let call = number(fields[0]);
    let text = |field: &str| field.to_owned();
    match fields[1..] {
        ["get", key] => Note::Begins(call, Want::Get { key: text(key) }),
        ["create", key, value] => Note::Begins(
            call,
            Want::Create {
                key: text(key),
                value: text(value),
            },
        ),
        [what @ ("update" | "delete"), key, value, revision] => {
            let (key, value, revision) = (text(key), text(value), number(revision));
            Note::Begins(
                call,
                match what {
                    "update" => Want::Update { key, value, revision },
                    _ => Want::Delete { key, value, revision },
                },
            )
        }
        ["done", revision] => Note::Ends(call, Got::Done(number(revision))),
        ["exists"] => Note::Ends(call, Got::Exists),
        ["missing"] => Note::Ends(call, Got::NotFound),
        ["conflict", revision] => Note::Ends(call, Got::Conflict(number(revision))),
        ["none"] => Note::Ends(call, Got::Value(None)),
        ["value", revision, value] => Note::Ends(call, Got::Value(Some((number(revision), text(value))))),
        _ => panic!("{line}"),
    }
}

/// Runs the child until it has noted so much, then kills it.
fn run_and_kill(dir: &Path, first: u64, enough: usize) -> Vec<Note> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trials::kill::child_writes_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = Vec::new();
    // The test harness prints its own line before ours, sometimes without ending it.
    let note = |line: std::io::Result<String>| {
        let line = line.unwrap();
        let (_, note) = line.split_once("note|")?;
        Some(read(note.strip_suffix('|')?))
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while notes.len() < enough {
        notes.extend(note(lines.next().expect("the child writes on")));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    notes.extend(lines.filter_map(note));
    notes
}

#[test]
fn no_write_that_was_acknowledged_or_seen_is_lost_to_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::default();
    for round in 0..times("STORE_KILLS", 8) {
        let first = (round as u64) << 32;
        history.add(run_and_kill(dir.path(), first, 60 + round % 12 * 45));
        history.take(&open(dir.path()));
    }
    history.check();
}
