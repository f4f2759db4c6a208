#!/usr/bin/env bash
# Runs a command as root: itself where that is who runs this, else through sudo.
# sudo forgets where the kubeconfig is; `ripstop up` wants to add to it.
set -euo pipefail

if [ "$(id -u)" -eq 0 ]; then
    exec "$@"
fi
if ! command -v sudo >/dev/null; then
    echo "this needs root, and there is no sudo: run it as root" >&2
    exit 1
fi
exec sudo env ${KUBECONFIG:+"KUBECONFIG=$KUBECONFIG"} "$@"
