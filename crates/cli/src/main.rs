//! The `ripstop` command: all of it is in the library, where fuzzing reaches it too.

fn main() -> std::process::ExitCode {
    cli::main()
}
