//! The `ripstop` command.
//!
//! | modules | for |
//! | --- | --- |
//! | `args` | what can be typed, and its help |
//! | `up`, `down`, `status`, `image`, `node`, `snapshot`, `check`, `flows`, `kubeconfig` | commands of people |
//! | `trace`, `policy`, `explain` | commands that explain |
//! | `server`, `routes`, `agent`, `dns`, `supervise` | the processes of a cluster |
//! | `failure`, `progress`, `table` | how results look |
//!
//! Exit status: 0 it is done, 1 it isn't, 2 it was asked for wrongly.

mod agent;
mod api;
mod args;
mod check;
mod dns;
mod down;
mod explain;
mod failure;
mod flows;
pub mod fuzz;
mod image;
mod kubeconfig;
mod lock;
mod manifests;
mod node;
mod output;
mod policy;
mod progress;
mod routes;
mod server;
mod snapshot;
mod status;
mod supervise;
mod table;
mod trace;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::output::note;

/// The command, as it was typed.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Command::Completions { shell } = args.command {
        clap_complete::generate(shell, &mut Args::command(), "ripstop", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    // The one crypto provider of the tree; only a second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    start_log(&args);
    if args.command.is_process() {
        raise_file_limit();
        // Whatever the shell said that `up` was typed into: users in containers read volumes.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note!("error: can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(args));
    // What still blocks a thread (reading standard input, say) must not keep the program.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Up(up) => up::run(up).await,
        Command::Down(down) => down::run(down).await,
        Command::Status(status) => status::run(status).await,
        Command::Kubeconfig(named) => kubeconfig::print(&named.name),
        Command::Image { command } => image::run(command).await,
        Command::Node { command } => node::run(command).await,
        Command::Snapshot { command } => snapshot::run(command).await,
        Command::Check(check) => check::run(check).await,
        Command::Flows(flows) => flows::run(flows).await,
        Command::Trace(trace) => trace::run(trace).await,
        Command::Policy { command } => policy::run(command).await,
        Command::Logs(logs) => status::logs(&logs),
        Command::Supervise(named) => supervise::run(&named.name).await,
        Command::Server(server) => server::run(server).await,
        Command::Agent { config } => agent::run(&config).await,
        Command::Dns { config } => dns::run(&config).await,
        // Handled before there is a runtime.
        Command::Completions { .. } => Ok(()),
    }
}

/// Each watch and each stream is an open file, and the usual limit is a shell's.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "can't raise the limit of open files");
    }
}

/// Processes log what they do, commands only what is wrong; `RIPSTOP_LOG` says otherwise.
fn start_log(args: &Args) {
    use tracing_subscriber::EnvFilter;
    let process = args.command.is_process();
    // What a client library thinks of a refused connection is said in our own words.
    let default = if process { "info" } else { "error,kube_client=off" };
    let filter = EnvFilter::try_from_env("RIPSTOP_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
