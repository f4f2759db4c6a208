//! Running programs and waiting for conditions.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a program printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard output of a program that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code,
            Some(0),
            "{} failed\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// Standard error of a program that must have failed.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_ne!(
            self.code,
            Some(0),
            "{} succeeded, and should not have\n{}",
            self.command,
            self.stdout
        );
        self.stderr
    }
}

/// Runs a program to its end, with `input` on its standard input.
///
/// # Panics
/// If the program can't be started.
pub fn run(command: &mut Command, input: Option<&str>) -> Outcome {
    let line = format!("{command:?}");
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{line} can't be started: {error}"));
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes())
            .expect("the program reads its input");
    }
    let output = child
        .wait_with_output()
        .expect("a started program can be waited for");
    Outcome {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asks again until the answer is `Ok`, and fails with the last `Err` when time is up.
///
/// # Panics
/// When `limit` has passed.
#[track_caller]
pub fn eventually<T>(limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(value) => return value,
            Err(last) if start.elapsed() > limit => panic!("not within {limit:?}: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
