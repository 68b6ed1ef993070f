#!/bin/sh
# check-static.sh BINARY...: fails unless each needs nothing of the system that it runs on: neither a
# loader nor a shared library, so no version of a C library either.
set -eu

command -v readelf >/dev/null || { echo 'check-static.sh: there is no readelf (Debian: binutils)' >&2; exit 1; }
for binary; do
    headers=$(readelf --wide --program-headers --dynamic "$binary")
    if printf '%s\n' "$headers" | grep -E 'INTERP|\(NEEDED\)' >&2; then
        echo "check-static.sh: $binary is not static: see above" >&2
        exit 1
    fi
done
