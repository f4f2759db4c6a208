//! Developer tasks that are more than a line of shell: `cargo run -p xtask -- --help`.

mod bpf;
mod docs;
mod elf;
mod image;
mod layer;
mod plugin;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Developer tasks of Ripstop", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the archive with the toolbox and pause images
    Image(image::Options),
    /// Checks that a built CNI plugin is static and small
    PluginCheck {
        /// The plugin
        plugin: PathBuf,
    },
    /// Builds the programs in `bpf/` and keeps the object in crate kernel
    Bpf {
        /// Only compare with the object that is kept
        #[arg(long)]
        check: bool,
        /// The repository's root
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// Checks that the documents say what is
    DocsCheck {
        /// The repository's root
        #[arg(long, default_value = ".")]
        root: PathBuf,
        /// A built `ripstop`, to check the README's commands against
        #[arg(long)]
        ripstop: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Image(options) => image::build(&options),
        Task::PluginCheck { plugin } => plugin::check(&plugin),
        Task::Bpf { check, root } => bpf::build(&root, check),
        Task::DocsCheck { root, ripstop } => docs::check(&root, ripstop.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
