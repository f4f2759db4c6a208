//! The programs in the kernel: built by a compiler of their own, kept in the repository, so that
//! whoever builds Ripstop needs nothing but cargo.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where the sources are, a workspace of their own.
const SOURCES: &str = "bpf";
/// Where the built object is kept.
const OBJECT: &str = "crates/kernel/src/bpf/ripstop.bpf.o";
const TARGET: &str = "bpfel-unknown-none";
const NAME: &str = "ripstop-bpf";
/// Has what is cleared be cleared by stores. The linker's default are calls of a loop over bytes, which the
/// kernel follows each time.
const PLAIN_STORES: &str = "--disable-expand-memcpy-in-order";
/// Newer ones want a system LLVM.
const LINKER: &str = "0.10.4";

/// Builds the object and keeps it, or with `check` only compares it with the one that is kept.
pub(crate) fn build(root: &Path, check: bool) -> Result<()> {
    let root = fs::canonicalize(root).with_context(|| root.display().to_string())?;
    let built = compile(&root)?;
    let kept = root.join(OBJECT);
    if fs::read(&kept).is_ok_and(|kept| kept == built) {
        println!("{OBJECT} is what {SOURCES}/ says");
        return Ok(());
    }
    ensure!(
        !check,
        "{OBJECT} isn't what {SOURCES}/ says: run `cargo run -p xtask -- bpf` and commit the object"
    );
    fs::write(&kept, built).with_context(|| kept.display().to_string())?;
    println!("wrote {OBJECT}");
    Ok(())
}

fn compile(root: &Path) -> Result<Vec<u8>> {
    let linker = Command::new("bpf-linker").arg("--version").output();
    let version = linker.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    ensure!(
        version.is_ok_and(|version| version.contains(LINKER)),
        "bpf-linker {LINKER} is wanted: run `scripts/bpf-tools.sh`"
    );
    let target = root.join(SOURCES).join("target");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(root.join(SOURCES))
        .args(["build", "--release", "--locked", "--quiet", "--target", TARGET])
        .args(["-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(&target)
        // The target is built with the sources of the standard library, which stable Rust doesn't
        // allow otherwise.
        .env("RUSTC_BOOTSTRAP", "1")
        // No path of this machine is to be in the object.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!(
                "--remap-path-prefix={}=/ripstop\x1f-Clink-arg={PLAIN_STORES}",
                root.display()
            ),
        );
    // What cargo sets for us isn't meant for it.
    for name in [
        "RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(name);
    }
    let status = cargo.status().context("run cargo")?;
    ensure!(
        status.success(),
        "the programs couldn't be built; if the sources of the standard library are missing, run `scripts/bpf-tools.sh`"
    );
    let object = target.join(TARGET).join("release").join(NAME);
    fs::read(&object).with_context(|| object.display().to_string())
}
