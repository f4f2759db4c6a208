//! Any of the targets of `crates/fuzz-targets`: the environment's `FUZZ_TARGET` says which. One program, because
//! linking takes longest.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static NAME: LazyLock<String> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let names: Vec<_> = fuzz_targets::TARGETS.iter().map(|target| target.name).collect();
    if !names.contains(&name.as_str()) {
        eprintln!("FUZZ_TARGET={name:?} is no target: one of {}", names.join(", "));
        std::process::exit(2);
    }
    name
});

fuzz_target!(
    init: {
        LazyLock::force(&NAME);
    },
    |input: &[u8]| fuzz_targets::run(&NAME, input)
);
