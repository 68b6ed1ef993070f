#!/bin/sh
# figures.sh: instructions that one inference of each shipped int8 model takes on the boards' cores, counted under
# QEMU, with the heap that it takes, as the first table of docs/arm.md.
#
# Counts repeat to within a percent where times under an emulator mean nothing. They are not times either: cores
# differ in how many they do at once. Compare within a column.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 0 ] || { echo 'usage: figures.sh' >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
counter "$scratch"

heap() { # EMULATOR CORE BINARY MODEL
    "$1" -cpu "$2" "$3" footprint "$4" --engine plan --json 2>/dev/null |
        awk -F '[:,]' '/"heap_peak_bytes"/ { printf "%.0f KiB", $2 / 1024 }'
}

for binary in dist/tractlet-aarch64-slim dist/tractlet-armv7-slim; do
    [ -e "$binary" ] || die "there is no $binary: first make pi4 SLIM=1 and make armv7 SLIM=1"
done
echo
echo '| model | Cortex-A53, aarch64 | Cortex-A76, aarch64 | Cortex-A7, armv7 | heap, peak, aarch64 |'
echo '| --- | ---: | ---: | ---: | ---: |'
for model in models/*/int8.onnx; do
    a53=$(inference 'qemu-aarch64 -cpu cortex-a53' dist/tractlet-aarch64-slim plan "$model")
    a76=$(inference 'qemu-aarch64 -cpu cortex-a76' dist/tractlet-aarch64-slim plan "$model")
    a7=$(inference 'qemu-arm -cpu cortex-a7' dist/tractlet-armv7-slim plan "$model")
    heap=$(heap qemu-aarch64 cortex-a53 dist/tractlet-aarch64-slim "$model")
    echo "| $(basename "$(dirname "$model")") | $a53 k | $a76 k | $a7 k | $heap |"
done
echo
