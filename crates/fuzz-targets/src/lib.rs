//! What fuzzing runs: a function for each place where the program reads bytes that somebody else wrote.
//!
//! ```text
//! fuzz/fuzz_targets/any.rs (libFuzzer, by hand) ──┐
//!                                                 ├─► a target here ─► the crate that reads such bytes
//! tests/fuzz.rs (every test run, for a moment) ───┘        ▲
//!                    fuzz/corpus/NAME ─► mutate ───────────┘
//! ```
//!
//! A target panics if the program would, or where what it read isn't what it should be: reading what was written
//! gives the same again, defaults are complete the first time. What fuzzing found stays in the corpus.

mod control;
mod files;
mod mutate;
mod network;

pub use mutate::Mutator;

/// A way into the program.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, as of its corpus.
    pub name: &'static str,
    /// Reads some bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "protobuf",
        run: control::protobuf,
    },
    Target {
        name: "object",
        run: apiserver::fuzz::object,
    },
    Target {
        name: "request",
        run: apiserver::fuzz::request,
    },
    Target {
        name: "page",
        run: apiserver::fuzz::page,
    },
    Target {
        name: "token",
        run: apiserver::fuzz::token,
    },
    Target {
        name: "patch",
        run: control::patch,
    },
    Target {
        name: "apply",
        run: control::apply,
    },
    Target {
        name: "definition",
        run: control::definition,
    },
    Target {
        name: "rule",
        run: control::rule,
    },
    Target {
        name: "quantity",
        run: control::quantity,
    },
    Target {
        name: "snapshot",
        run: files::snapshot,
    },
    Target {
        name: "cluster",
        run: cli::fuzz::cluster,
    },
    Target {
        name: "manifests",
        run: cli::fuzz::objects,
    },
    Target {
        name: "kubeconfig",
        run: cli::fuzz::kubeconfig,
    },
    Target {
        name: "journal",
        run: agent::fuzz::journal,
    },
    Target {
        name: "dns",
        run: network::dns,
    },
    Target {
        name: "cni",
        run: network::cni,
    },
    Target {
        name: "flows",
        run: agent::fuzz::flows,
    },
    Target {
        name: "services",
        run: network::services,
    },
    Target {
        name: "policies",
        run: network::policies,
    },
    Target {
        name: "pools",
        run: controllers::fuzz::pools,
    },
    Target {
        name: "schedule",
        run: scheduler::fuzz::schedule,
    },
    Target {
        name: "pod",
        run: kubelet::fuzz::pod,
    },
    Target {
        name: "kubelet",
        run: kubelet::fuzz::request,
    },
];

/// Runs a target; there must be one of that name.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a fuzz target of that name").run)(input);
}
