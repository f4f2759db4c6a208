#!/usr/bin/env bash
# Everything that has to hold, cheapest first; ends with the test runner's own
# summary. Cargo runs as whoever runs this, test programs as root.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
step() { printf '\n== %s\n' "$*"; }

step "dependencies"
scripts/deps.sh --test
# Test programs look for runc, ip and nft, which may not be on a user's PATH.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

step "format"
cargo fmt --all --check
(cd fuzz && cargo fmt --check)

step "lints"
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

step "the BPF object is what its sources say"
scripts/bpf-tools.sh
(cd bpf && cargo fmt --check)
cargo run --quiet --locked -p xtask -- bpf --check

step "licences and banned crates"
if ! cargo deny --version >/dev/null 2>&1; then
    cargo install cargo-deny --locked --quiet
fi
cargo deny --log-level error check bans licenses sources

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

step "what is released, by itself"
# Other crates of the workspace turn features on that it would miss without them.
cargo check --locked --quiet -p cli -p xtask

step "programs and tests"
# Whole clusters start these programs, too: a release build takes as long as all the rest of this.
cargo build --workspace --all-targets --locked --quiet
# In a folder of their own: beside cargo's, it would put its own ripstop-cni back.
programs=$target/programs
mkdir -p "$programs"
ln -f "$target/debug/ripstop" "$target/debug/xtask" "$programs"
make beside BESIDE="$programs"
export RIPSTOP_BIN=$programs/ripstop
export RIPSTOP_TOOLBOX_TAR=$programs/toolbox.tar
"$programs/xtask" docs-check --ripstop "$RIPSTOP_BIN"

if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "tests make network namespaces: run them as root, or install sudo" >&2; exit 1; }
    sudo -v
    # Tests run for longer than sudo remembers.
    (while sleep 50 && kill -0 $$ 2>/dev/null; do sudo -n -v || exit; done) &
    trap 'kill $!' EXIT
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=sudo -n -E env PATH=$PATH"
fi

step "tests"
if cargo nextest --version >/dev/null 2>&1; then
    cargo test --workspace --doc --locked --quiet
    cargo nextest run --workspace --locked --no-fail-fast
else
    # One at a time: whole clusters want the machine for themselves.
    cargo test --workspace --exclude e2e --locked --no-fail-fast
    cargo test -p e2e --locked --no-fail-fast -- --test-threads=1
fi
