#!/usr/bin/env bash
# Prints the path of a static busybox; fails if there is none.
set -euo pipefail

target=${CARGO_TARGET_DIR:-target}
for path in ${BUSYBOX:+"$BUSYBOX"} "$target"/busybox/{bin,usr/bin}/busybox /bin/busybox /usr/bin/busybox; do
    # A dynamic program names its loader near its beginning.
    if [ -x "$path" ] && ! head -c 4096 "$path" | grep -aqE '/ld-(linux|musl)'; then
        echo "$path"
        exit
    fi
done
echo "there is no static busybox: run 'make deps', or name one in BUSYBOX" >&2
exit 1
