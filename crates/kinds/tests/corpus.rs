//! A corpus of manifests, a file a kind (`corpus/GROUP_PLURAL.yaml`, or with a version where it isn't `v1`):
//!
//! - `manifest`: an ordinary object. What the server makes of it, and how `kubectl get -o wide` shows it with
//!   its `status`, is snapshotted.
//! - `refused`: what is wrong with the manifest once it is changed so, and what the server says.
//! - `changes`: what is wrong with changing the one manifest into the other; `allowed` where nothing is.
//!
//! Changes are JSON merge patches.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use kinds::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

/// 2024-01-01T00:00:00Z.
const NOW: i64 = 1_704_067_200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    manifest: Value,
    /// For the row alone: a new object's is taken away.
    #[serde(default)]
    status: Value,
    #[serde(default)]
    refused: Vec<Refused>,
    #[serde(default)]
    changes: Vec<Change>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    change: Value,
    says: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default = "nothing")]
    from: Value,
    #[serde(default = "nothing")]
    to: Value,
    says: Vec<String>,
}

fn nothing() -> Value {
    json!({})
}

fn path(kind: &Kind) -> PathBuf {
    let group = if kind.group().is_empty() {
        "core"
    } else {
        kind.group()
    };
    let version = if kind.version() == "v1" {
        String::new()
    } else {
        format!("_{}", kind.version())
    };
    let name = format!("{group}_{}{version}.yaml", kind.plural());
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name)
}

fn corpora() -> Vec<(&'static Kind, Corpus)> {
    let read = |kind: &'static Kind| {
        let path = path(kind);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let corpus =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (kind, corpus)
    };
    kinds::all().iter().map(read).collect()
}

/// A JSON merge patch.
fn merge(base: &Value, change: &Value) -> Value {
    match (base, change) {
        (_, Value::Object(change)) => {
            let mut merged = base.as_object().cloned().unwrap_or_default();
            for (key, change) in change {
                if change.is_null() {
                    merged.remove(key);
                } else {
                    let value = merge(merged.get(key).unwrap_or(&Value::Null), change);
                    merged.insert(key.clone(), value);
                }
            }
            merged.into()
        }
        _ => change.clone(),
    }
}

/// What the server makes of a manifest, as it does on creation, or of a change of an object.
fn admitted(kind: &Kind, manifest: &Value, old: Option<&Value>) -> Value {
    let mut object = manifest.clone();
    object["metadata"]["uid"] = "7b5e4f4c-0000-4000-8000-000000000000".into();
    object["metadata"]["creationTimestamp"] = "2023-12-31T23:55:00Z".into();
    if kind.namespaced() {
        object["metadata"]["namespace"] = "default".into();
    }
    let decoded = kind
        .decode(&object)
        .unwrap_or_else(|error| panic!("{}: {error}", kind.plural()));
    assert_eq!(decoded.unknown, Vec::<String>::new(), "{}", kind.plural());
    let mut object = decoded.object;
    kind.default(&mut object);
    kind.prepare(&mut object, old);
    object
}

fn complaints(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    let errors = kind.validate(new, old);
    errors.iter().map(ToString::to_string).collect()
}

fn row(kind: &Kind, object: &Value) -> String {
    let cells = kind.row(object, NOW);
    assert_eq!(cells.len(), kind.columns().len(), "{}", kind.plural());
    let mut text = String::new();
    for (column, cell) in kind.columns().iter().zip(&cells) {
        let cell = cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        let wide = if column.priority > 0 { " (wide)" } else { "" };
        writeln!(text, "{}{wide}: {cell}", column.name.to_uppercase()).unwrap();
    }
    text
}

#[test]
fn manifests_become_what_kubernetes_makes_of_them() {
    for (kind, corpus) in corpora() {
        let object = admitted(kind, &corpus.manifest, None);
        assert_eq!(
            complaints(kind, &object, None),
            Vec::<String>::new(),
            "{}",
            kind.plural()
        );
        let with_status = merge(&object, &json!({ "status": corpus.status }));
        let seen = if corpus.status.is_null() {
            &object
        } else {
            &with_status
        };
        let yaml = serde_saphyr::to_string(&object).unwrap();
        let name = path(kind).file_stem().unwrap().to_str().unwrap().to_owned();
        insta::assert_snapshot!(name, format!("{}\n{yaml}", row(kind, seen)));
    }
}

#[test]
fn what_was_admitted_stays_as_it_is() {
    for (kind, corpus) in corpora() {
        let object = admitted(kind, &corpus.manifest, None);
        let decoded = kind.decode(&object).unwrap();
        assert_eq!(decoded.object, object, "{}: decoding again", kind.plural());
        let again = admitted(kind, &object, Some(&object));
        assert_eq!(again, object, "{}: defaults again", kind.plural());
        assert_eq!(
            complaints(kind, &again, Some(&object)),
            Vec::<String>::new(),
            "{}",
            kind.plural()
        );
        assert!(!kind.is_new_generation(&again, &object), "{}", kind.plural());
    }
}

/// All differences at once, so that a look at them is enough.
fn assert_said(kind: &Kind, change: &str, said: &[String], expected: &[String], differences: &mut String) {
    if said != expected {
        writeln!(differences, "{} {change}", kind.plural()).unwrap();
        for line in expected.iter().filter(|line| !said.contains(line)) {
            writeln!(differences, "  - {line}").unwrap();
        }
        for line in said.iter().filter(|line| !expected.contains(line)) {
            writeln!(differences, "  + {line}").unwrap();
        }
    }
}

#[test]
fn broken_manifests_are_refused_in_kubernetes_words() {
    let mut differences = String::new();
    for (kind, corpus) in corpora() {
        for Refused { change, says } in corpus.refused {
            let object = admitted(kind, &merge(&corpus.manifest, &change), None);
            let said = complaints(kind, &object, None);
            assert_said(kind, &change.to_string(), &said, &says, &mut differences);
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn changes_are_allowed_or_refused_in_kubernetes_words() {
    let mut differences = String::new();
    for (kind, corpus) in corpora() {
        for Change { from, to, says } in corpus.changes {
            let old = admitted(kind, &merge(&corpus.manifest, &from), None);
            let new = admitted(kind, &merge(&corpus.manifest, &to), Some(&old));
            let said = complaints(kind, &new, Some(&old));
            assert_said(kind, &format!("{from} to {to}"), &said, &says, &mut differences);
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}
