#!/bin/sh
# build.sh BOARD [slim]: one static binary for a board, dist/tractlet-<arch>[-slim].
#
# For the Pi Zero there is the slim one alone: its C library is not that of which tract's kernels are assembled.
# Slim is without the engine `tract`. PROFILE names a profile of Cargo.toml other than dist, and slim for that.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

case $# in 1 | 2) ;; *) echo 'usage: build.sh BOARD [slim]' >&2; exit 2 ;; esac
board=$1
variant=${2:-}
profile=${PROFILE:-${variant:-dist}}
triple=$(field "$board" triple)
binary=dist/tractlet-$(arch "$triple")
set -- --locked --profile "$profile" --target "$triple"
case $variant in
    '') ;;
    slim)
        binary=$binary-slim
        set -- "$@" --no-default-features --features mqtt
        ;;
    *) die "there is no variant $variant: it is slim, or none" ;;
esac

use_toolchain "$triple"
flags=
# Where nothing unwinds, nothing has to say how.
[ "$profile" != slim ] || flags=$(printf '\037-Cforce-unwind-tables=no')
if [ "$triple" = arm-unknown-linux-musleabihf ]; then
    [ "$variant" = slim ] || die "the engine tract is not built for ARMv6 here: make $board SLIM=1"
    set -- "$@" -Zbuild-std=std,panic_abort
    flags=$flags$(printf '\037%s' -Clink-self-contained=no -Ctarget-cpu=arm1176jzf-s "--remap-path-prefix=$cross=/toolchain")
fi
# The folders of sources, which `rustflags` lists, are there only after this.
cargo fetch --locked --target "$triple"
CARGO_ENCODED_RUSTFLAGS=$(rustflags)$flags
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export CARGO_ENCODED_RUSTFLAGS SOURCE_DATE_EPOCH
cargo build "$@" --bin tractlet

[ "$profile" != dev ] || profile=debug
mkdir -p dist
"$(gnu "$triple")-strip" -o "$binary" "${CARGO_TARGET_DIR:-target}/$triple/$profile/tractlet"
targets/check-static.sh "$binary"
printf '%s  %s bytes  sha256 %s\n' "$binary" "$(wc -c <"$binary")" "$(sha256sum "$binary" | cut -d ' ' -f 1)"
