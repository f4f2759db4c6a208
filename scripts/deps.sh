#!/usr/bin/env bash
# Installs what is missing, through apt; what is there in any form stays as it
# is. With --test or --bench also what only the tests or the benchmarks want.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where a plain user's PATH doesn't look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL=C

say() { echo "deps: $*"; }
fail() { echo "deps: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null; }

rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! has cargo || ! has rustc; then
        local home=""
        [ -z "${SUDO_USER:-}" ] || home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        if [ -n "$home" ] && [ -x "$home/.cargo/bin/cargo" ]; then
            fail "root has no cargo, but $SUDO_USER has: run make without sudo, it asks for root where it needs it"
        fi
        fail "there is no Rust toolchain: install one of $wanted or newer, as on https://rustup.rs"
    fi
    found=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -1)" != "$wanted" ]; then
        fail "rustc is $found, and $wanted or newer is wanted: 'rustup update', or see https://rustup.rs"
    fi
}

# For the static programs, the C library as an archive too.
has_cc() {
    has cc && [ -f "$(cc -print-file-name=libc.a)" ]
}

# The reference plugins, where distributions and Kubernetes' packages put them.
has_cni_plugins() {
    local folder
    for folder in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
        if [ -x "$folder/bridge" ] && [ -x "$folder/tuning" ]; then return; fi
    done
    false
}

missing=()
need() { # PROGRAM PACKAGE...
    has "$1" || missing+=("${@:2}")
}

collect() {
    need containerd containerd
    # containerd's own client; Debian and Docker ship it with containerd.
    has containerd && need ctr containerd
    need runc runc
    need make make
    has_cc || missing+=(gcc libc6-dev)
    if ! scripts/busybox.sh >/dev/null 2>&1 && ! has busybox; then
        missing+=(busybox-static)
    fi
    if [ "$tests" = yes ]; then
        need ip iproute2
        need iptables iptables
        need openssl openssl
        # Another Python than the distribution's knows none of its packages.
        /usr/bin/python3 -c 'import kubernetes' 2>/dev/null || missing+=(python3-kubernetes)
    fi
    if [ "$tests$bench" != nono ]; then
        need nft nftables
    fi
    if [ "$tests$bench" != nono ] && ! has_cni_plugins; then
        missing+=(containernetworking-plugins)
    fi
    if [ "$tests$bench" != nono ] && ! has dnsmasq; then
        # The program alone: the package dnsmasq would start it.
        missing+=(dnsmasq-base)
    fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

updated=no
update() {
    [ "$updated" = no ] || return 0
    updated=yes
    as_root apt-get update -q
}

install() {
    has apt-get || fail "missing: $*. There is no apt here: install them your distribution's way and run this again"
    [ "$(id -u)" -eq 0 ] || has sudo || fail "missing: $*. Installing them needs root"
    say "installing $*"
    update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# A busybox that isn't static is part of somebody's system: the static one is
# unpacked aside instead of replacing it.
busybox_aside() {
    local aside
    aside=$(realpath -m "${CARGO_TARGET_DIR:-target}")/busybox
    has apt-get && has dpkg || fail "busybox is there but not static: name a static one in BUSYBOX"
    say "unpacking busybox-static into $aside"
    update
    mkdir -p "$aside"
    (cd "$aside" && apt-get download -q busybox-static && dpkg -x busybox-static_*.deb . && rm busybox-static_*.deb)
    scripts/busybox.sh >/dev/null
}

# Debian has kubectl as kubernetes-client; Ubuntu as a snap only.
packaged_kubectl() {
    # To its end: who writes into a pipe that is closed early has failed.
    apt-cache policy kubernetes-client 2>/dev/null | grep 'Candidate: [0-9]' >/dev/null
}

provide_kubectl() {
    has kubectl && return
    if has apt-get; then
        # A fresh Debian knows no packages at all before its first update.
        packaged_kubectl || ! grep -q '^ID=debian' /etc/os-release || update
        if packaged_kubectl; then
            install kubernetes-client
            return
        fi
    fi
    local cure="there is no kubectl, and no package of it here: 'sudo snap install kubectl --classic' on Ubuntu, else https://kubernetes.io/docs/tasks/tools/"
    [ "$tests" = no ] || fail "$cure"
    say "$cure"
}

# Tests drive kubectl as this machine has it, and as its distribution packages it: unpacked aside, so that
# nobody's own is replaced. Where both are one, or there is no package, a link says so.
second_kubectl() {
    local aside own
    aside=$(realpath -m "${CARGO_TARGET_DIR:-target}")/kubectl
    own=$(realpath "$(command -v kubectl)")
    if [ -x "$aside/usr/bin/kubectl" ] && [ ! -L "$aside/usr/bin/kubectl" ]; then return; fi
    mkdir -p "$aside/usr/bin"
    rm -f "$aside/usr/bin/kubectl"
    if ! has apt-get || dpkg -S "$own" 2>/dev/null | grep '^kubernetes-client:' >/dev/null || ! packaged_kubectl; then
        ln -s "$own" "$aside/usr/bin/kubectl"
        return
    fi
    say "unpacking kubernetes-client into $aside"
    update
    (cd "$aside" && apt-get download -q kubernetes-client && dpkg -x kubernetes-client_*.deb . && rm kubernetes-client_*.deb)
}

tests=no bench=no
case "${1:-}" in
"") ;;
--test) tests=yes ;;
--bench) bench=yes ;;
*) fail "usage: deps.sh [--test|--bench]" ;;
esac

rust
collect
if [ ${#missing[@]} -gt 0 ]; then
    install "${missing[@]}"
fi
scripts/busybox.sh >/dev/null 2>&1 || busybox_aside
provide_kubectl
[ "$tests" = no ] || second_kubectl
