//! Each target on its corpus and on inputs made from it: the same ones each time.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use fuzz_targets::{Mutator, TARGETS};
use rstest::rstest;

/// How many inputs are made; `FUZZ_INPUTS` may say more.
const INPUTS: usize = 150;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// Runs a target; an input that it panics over is shown.
fn run(name: &str, what: &str, input: &[u8]) {
    if let Err(panic) = panic::catch_unwind(|| fuzz_targets::run(name, input)) {
        eprintln!("{name} panics over {what}:\n{}", input.escape_ascii());
        panic::resume_unwind(panic);
    }
}

#[rstest]
fn nothing_panics_over_inputs(
    #[values(
        "protobuf",
        "object",
        "request",
        "page",
        "token",
        "patch",
        "apply",
        "definition",
        "rule",
        "quantity",
        "snapshot",
        "cluster",
        "manifests",
        "kubeconfig",
        "journal",
        "dns",
        "cni",
        "flows",
        "services",
        "policies",
        "pools",
        "schedule",
        "pod",
        "kubelet"
    )]
    name: &str,
) {
    let corpus = corpus(name);
    for (file, input) in &corpus {
        run(name, file, input);
    }
    let inputs = std::env::var("FUZZ_INPUTS").map_or(INPUTS, |count| count.parse().unwrap());
    let mut mutator = Mutator::new(7, corpus.into_iter().map(|(_, input)| input).collect());
    for index in 0..inputs {
        run(name, &format!("input {index}"), &mutator.next_input());
    }
}

#[test]
fn every_target_is_in_the_test_and_has_a_corpus() {
    let test = include_str!("fuzz.rs");
    for target in TARGETS {
        let name = target.name;
        assert!(test.contains(&format!("\"{name}\"")), "the test lacks {name}");
        assert!(!corpus(name).is_empty(), "{name} has something to begin with");
    }
    let folders = fs::read_dir(root().join("corpus")).unwrap().count();
    assert_eq!(folders, TARGETS.len(), "each target has a corpus, and no other");
}
