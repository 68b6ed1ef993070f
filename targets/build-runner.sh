#!/bin/sh
# build-runner.sh BOARD|host: the program that runs plans alone, dist/tractlet-plan-<arch>: static, without a C library.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 1 ] || { echo 'usage: build-runner.sh BOARD|host' >&2; exit 2; }
# What a program may take that is to be copied to a small board: make it smaller, or say here why not.
limit=671744
if [ "$1" = host ]; then
    # AVX2 has more kernels than NEON, and such a machine more room.
    limit=876544
    triple=$(rustc -vV | sed -n 's/^host: //p')
    binary=dist/tractlet-plan-${triple%%-*}
    strip=strip
else
    triple=$(field "$1" triple)
    binary=dist/tractlet-plan-$(arch "$triple")
    strip=$(gnu "$triple")-strip
    use_toolchain "$triple"
fi
cargo fetch --locked --target "$triple"
# No relocations: nothing is there that would carry them out. Nor is there anything for a loader to protect once it has
# relocated, which would have a page of 64 KiB of its own in the file, or anybody to unwind.
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\037-Crelocation-model=static\037-Clink-arg=-Wl,-z,norelro\037-Cforce-unwind-tables=no' "$(rustflags)")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export CARGO_ENCODED_RUSTFLAGS SOURCE_DATE_EPOCH
cargo build --locked --profile plan --target "$triple" -p tractlet-runner --features bare --bin tractlet-plan
mkdir -p dist
"$strip" -o "$binary" "${CARGO_TARGET_DIR:-target}/$triple/plan/tractlet-plan"
targets/check-static.sh "$binary"
bytes=$(wc -c <"$binary")
[ "$bytes" -le $limit ] || die "$binary takes $bytes bytes, above $limit"
printf '%s  %s bytes  sha256 %s\n' "$binary" "$bytes" "$(sha256sum "$binary" | cut -d ' ' -f 1)"
