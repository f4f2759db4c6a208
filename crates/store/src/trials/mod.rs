//! What the store promises, tried on machines that fail: killed processes, power that goes at any moment, disks
//! that fill up or err.
//!
//! ```text
//! workload ─► note by note: a call begins, a call ends ─► history ─┐
//!    │                                                             ├─► is there an order that explains both?
//!    ▼                                                    log ─────┘
//! Store ─► Machine (in memory, loses power) · a child process (killed) · a small file system (fills up)
//! ```

mod full;
mod history;
mod kill;
mod machine;
mod power;
mod workload;

/// How often something fails: few times with the other tests, as often as is asked for otherwise.
fn times(variable: &str, few: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
        Err(_) => few,
    }
}
