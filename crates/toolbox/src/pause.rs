//! The process that keeps a sandbox's namespaces alive: PID 1 of every pod.
//!
//! It sleeps until a signal arrives, reaps what is handed down to it (which
//! happens when a pod shares its process namespace) and leaves on SIGTERM or
//! SIGINT.

mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    let Ok(signals) = signals::Signals::block() else {
        eprintln!("pause: can't block signals");
        return ExitCode::FAILURE;
    };
    signals.wait_for_end();
    ExitCode::SUCCESS
}
