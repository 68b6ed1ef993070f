#!/bin/sh
# test-reproducible.sh BOARD [slim|runner]: the binary in dist/, built before from this commit, is built once more from a clone in
# another folder, and comes out the same.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

case $# in 1 | 2) ;; *) echo 'usage: test-reproducible.sh BOARD [slim|runner]' >&2; exit 2 ;; esac
board=$1
variant=${2:-}
arch=$(arch "$(field "$board" triple)")
case $variant in
    '') binary=dist/tractlet-$arch ;;
    slim) binary=dist/tractlet-$arch-slim ;;
    runner) binary=dist/tractlet-plan-$arch ;;
    *) die "there is no variant $variant: it is slim, runner, or none" ;;
esac
[ -e "$binary" ] || die "there is no $binary: build it first"
[ -z "$(git status --porcelain)" ] || die 'there are changes that are in no commit, so a clone has other sources'
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone --quiet . "$scratch/clone"
unset CARGO_TARGET_DIR
if [ "$variant" = runner ]; then
    "$scratch/clone/targets/build-runner.sh" "$board"
else
    # shellcheck disable=SC2086 # a word or none
    "$scratch/clone/targets/build.sh" "$board" $variant
fi
cmp "$binary" "$scratch/clone/$binary" || die "two builds of $binary differ"
echo "two builds of $binary, in two folders, are the same: $(sha256sum "$binary" | cut -d ' ' -f 1)"
