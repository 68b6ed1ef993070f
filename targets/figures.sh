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
"${CC:-cc}" -O2 -shared -fPIC -o "$scratch/libicount.so" targets/icount.c

# Instructions of a whole process that runs the model so often.
count() { # EMULATOR CORE BINARY MODEL RUNS
    "$1" -cpu "$2" -plugin "$scratch/libicount.so" "$3" bench "$4" --engine plan --warmup 1 --runs "$5" \
        2>"$scratch/count" >/dev/null || { cat "$scratch/count" >&2; die "it failed on $2"; }
    sed -n 's/^insns //p' "$scratch/count" | tail -n 1
}

# One inference: what twenty more runs take, a twentieth of it.
inference() { # EMULATOR CORE BINARY MODEL
    few=$(count "$@" 5)
    many=$(count "$@" 25)
    awk -v few="$few" -v many="$many" 'BEGIN { printf "%.0f k", (many - few) / 20 / 1000 }'
}

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
    printf '| %s | %s | %s | %s | %s |\n' "$(basename "$(dirname "$model")")" \
        "$(inference qemu-aarch64 cortex-a53 dist/tractlet-aarch64-slim "$model")" \
        "$(inference qemu-aarch64 cortex-a76 dist/tractlet-aarch64-slim "$model")" \
        "$(inference qemu-arm cortex-a7 dist/tractlet-armv7-slim "$model")" \
        "$(heap qemu-aarch64 cortex-a53 dist/tractlet-aarch64-slim "$model")"
done
echo
