#!/bin/sh
# test-armv6.sh: the Pi Zero's binary, built quickly, on its core under QEMU: its outputs on the int8 models equal this machine's, bit
# for bit. Not part of test-arm.sh, since it builds the standard library first.
#
# HOST_TRACTLET is the binary of this machine to compare with; without it one is built.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 0 ] || { echo 'usage: test-armv6.sh' >&2; exit 2; }
command -v qemu-arm >/dev/null || die 'there is no qemu-arm (Debian: qemu-user); targets/setup-cross.sh installs it'
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
PROFILE=${PROFILE:-emulated} targets/build.sh pi-zero slim
if [ -z "${HOST_TRACTLET:-}" ]; then
    cargo build --locked --quiet --bin tractlet
    HOST_TRACTLET=${CARGO_TARGET_DIR:-target}/debug/tractlet
fi
targets/outputs.sh "$scratch/host" "$HOST_TRACTLET"
targets/outputs.sh "$scratch/armv6" qemu-arm -cpu "$(field pi-zero qemu_cpu)" dist/tractlet-armv6-slim
for output in "$scratch"/host/*; do
    cmp "$output" "$scratch/armv6/$(basename "$output")" ||
        die "an ARM1176 and this machine differ on the int8 model $(basename "$output" .npy)"
done
echo "the outputs of $(find "$scratch/host" -type f | wc -l) int8 models on an ARM1176 equal this machine's"
