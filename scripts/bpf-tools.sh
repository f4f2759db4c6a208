#!/usr/bin/env bash
# Installs what building the BPF object needs beside a Rust toolchain: the
# standard library's sources, and bpf-linker. Who doesn't change bpf/ needs
# neither: the object is in the repository.
set -euo pipefail

linker=0.10.4

fail() { echo "bpf-tools: $*" >&2; exit 1; }

# Whatever installed the toolchain may have brought them along.
if [ ! -f "$(rustc --print sysroot)/lib/rustlib/src/rust/library/core/Cargo.toml" ]; then
    command -v rustup >/dev/null ||
        fail "the standard library's sources (rust-src) are missing, and there is no rustup to add them with: install the package of your distribution that has them, or Rust by https://rustup.rs"
    rustup component add rust-src
fi
if [ "$(bpf-linker --version 2>/dev/null)" != "bpf-linker $linker" ]; then
    echo "bpf-tools: installing bpf-linker $linker"
    cargo install bpf-linker --version "$linker" --locked --quiet --force
fi
