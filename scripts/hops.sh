#!/bin/sh
# hops.sh TRACTLET: what the shipped models take hop by hop beside whole windows, as the table of models/README.md.
#
# Times are medians of five rounds, in each of which hops and whole windows are measured in turn.
set -eu

[ $# -eq 1 ] || { echo 'usage: hops.sh TRACTLET' >&2; exit 2; }
tractlet=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The number behind a key that the report has once.
field() {
    sed -n "s/^ *\"$2\": *\([0-9.]*\),*$/\1/p" "$scratch/$1"
}

median() {
    sort -n "$scratch/$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

row() {
    name=$1 hop=$2
    model=models/$name/int8.onnx
    : >"$scratch/hop_us"; : >"$scratch/whole_us"
    for _ in 1 2 3 4 5; do
        "$tractlet" bench "$model" --hop "$hop" --json >"$scratch/bench"
        field bench median_us >>"$scratch/hop_us"
        "$tractlet" bench "$model" --json >"$scratch/bench"
        field bench median_us >>"$scratch/whole_us"
    done
    "$tractlet" inspect "$model" --hop "$hop" --json >"$scratch/inspect"
    macs=$(sed -n 's/^ *"macs": *\([0-9]*\),*$/\1/p' "$scratch/inspect" | awk '{ sum += $1 } END { print sum }')
    "$tractlet" footprint "$model" --hop "$hop" --json >"$scratch/hop"
    "$tractlet" footprint "$model" --json >"$scratch/whole"
    awk -v name="$name" -v hop="$hop" -v rows="$(field inspect window_rows)" -v macs="$macs" \
        -v all="$(field inspect window_macs)" -v hop_us="$(median hop_us)" -v whole_us="$(median whole_us)" \
        -v state="$(field hop state_bytes)" -v arena="$(field hop arena_bytes)" -v whole="$(field whole arena_bytes)" \
        'BEGIN { printf "| %s | %d of %d | %d of %d | %.1f %% | %.1f of %.1f us | %.0f %% | %d, of which %d kept, for %d |\n",
            name, hop, rows, macs / 1000, all / 1000, 100 * macs / all, hop_us, whole_us, 100 * hop_us / whole_us,
            arena, state, whole }'
}

processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
isa=${TRACTLET_ISA:-the best instruction set}
echo
echo "On one core of ${processor:-an unknown processor}, with $isa, by \`scripts/hops.sh\`:"
echo
echo '| model, int8 | hop, rows | kMAC | share | median time | share | arena, bytes |'
echo '| --- | --- | --- | --- | --- | --- | --- |'
for hop in 1 3 10; do row sww_conv1d $hop; done
for hop in 4 16 64; do row har_cnn1d $hop; done
for hop in 2 6 12; do row kws_dscnn $hop; done
echo
