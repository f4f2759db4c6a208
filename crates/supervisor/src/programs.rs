//! Finds what a cluster runs.

use std::env;
use std::path::{Path, PathBuf};

use crate::cluster::Programs;
use crate::preflight::Problem;

/// Looked in after `PATH`, which under sudo and cron may lack them.
const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Finds everything, or tells all that is missing.
///
/// # Errors
/// One problem for each program that isn't there.
pub fn find() -> Result<Programs, Vec<Problem>> {
    let mut missing = Vec::new();
    let mut need = |found: Option<PathBuf>, what: &str, cure: &str| {
        found.unwrap_or_else(|| {
            missing.push(Problem::fatal(format!("{what} isn't there"), cure.to_owned()));
            PathBuf::new()
        })
    };
    let containerd =
        "install containerd, as in `apt install containerd` (Docker's containerd.io will do too)";
    let own = "run `make build`, or name the folder that has it in RIPSTOP_LIBDIR";
    let ripstop = env::current_exe().ok();
    let programs = Programs {
        cni: need(beside(ripstop.as_deref(), "ripstop-cni"), "ripstop-cni", own),
        images: need(
            beside(ripstop.as_deref(), "toolbox.tar"),
            "the image archive toolbox.tar",
            own,
        ),
        ripstop: need(ripstop, "the program file of ripstop", "start it by its path"),
        containerd: need(in_path("containerd"), "containerd", containerd),
        ctr: need(in_path("ctr"), "ctr, containerd's client,", containerd),
        runc: need(in_path("runc"), "runc", "install runc, as in `apt install runc`"),
    };
    if missing.is_empty() {
        Ok(programs)
    } else {
        Err(missing)
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    let mut files = folders
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}

/// A file that comes with `ripstop`: in `$RIPSTOP_LIBDIR`, beside the program, or where packages
/// put it.
fn beside(program: Option<&Path>, name: &str) -> Option<PathBuf> {
    let named = env::var_os("RIPSTOP_LIBDIR").map(PathBuf::from);
    let folder = program.and_then(Path::parent).map(Path::to_owned);
    let packaged = folder.as_ref().map(|folder| folder.join("../lib/ripstop"));
    let folders = [named, folder, packaged];
    let mut files = folders.into_iter().flatten().map(|folder| folder.join(name));
    files
        .find(|file| file.is_file())
        .and_then(|file| file.canonicalize().ok())
}
