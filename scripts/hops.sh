#!/bin/sh
# hops.sh TRACTLET [ROUNDS]: what the shipped models take hop by hop beside whole windows, as the table of
# models/README.md.
#
# With ROUNDS also median times, of so many rounds in each of which hops and whole windows are measured in turn.
set -eu

[ $# -ge 1 ] || { echo 'usage: hops.sh TRACTLET [ROUNDS]' >&2; exit 2; }
tractlet=$1
rounds=${2:-0}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The number behind a key that the report has once.
field() {
    sed -n "s/^ *\"$2\": *\([0-9.]*\),*$/\1/p" "$scratch/$1"
}

median() {
    sort -n "$scratch/$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

timing() {
    [ "$rounds" -gt 0 ] || return 0
    : >"$scratch/hop_us"
    : >"$scratch/whole_us"
    round=0
    while [ $((round += 1)) -le "$rounds" ]; do
        "$tractlet" bench "$1" --hop "$2" --json >"$scratch/bench"
        field bench median_us >>"$scratch/hop_us"
        "$tractlet" bench "$1" --json >"$scratch/bench"
        field bench median_us >>"$scratch/whole_us"
    done
    awk -v hop="$(median hop_us)" -v whole="$(median whole_us)" \
        'BEGIN { printf " %.1f of %.1f us, %.0f %% |", hop, whole, 100 * hop / whole }'
}

row() {
    model=models/$1/int8.onnx
    "$tractlet" inspect "$model" --hop "$2" --json >"$scratch/inspect"
    macs=$(sed -n 's/^ *"macs": *\([0-9]*\),*$/\1/p' "$scratch/inspect" | awk '{ sum += $1 } END { print sum }')
    "$tractlet" footprint "$model" --hop "$2" --json >"$scratch/hop"
    "$tractlet" footprint "$model" --json >"$scratch/whole"
    awk -v name="$1" -v hop="$2" -v rows="$(field inspect window_rows)" -v macs="$macs" \
        -v all="$(field inspect window_macs)" -v state="$(field hop state_bytes)" \
        -v arena="$(field hop arena_bytes)" -v whole="$(field whole arena_bytes)" \
        'BEGIN { printf "| %s | %d of %d | %.0f of %.0f, %.1f %% | %d, %d kept; %d |",
            name, hop, rows, macs / 1000, all / 1000, 100 * macs / all, arena, state, whole }'
    timing "$model" "$2"
    echo
}

echo
if [ "$rounds" -gt 0 ]; then
    processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    echo "Times on one core of ${processor:-an unknown processor}, medians of $rounds rounds in turn."
    echo
    echo '| model, int8 | hop, rows | kMAC of a hop, of a window | arena of hops, of windows, bytes | median time |'
    echo '| --- | --- | --- | --- | --- |'
else
    echo '| model, int8 | hop, rows | kMAC of a hop, of a window | arena of hops, of windows, bytes |'
    echo '| --- | --- | --- | --- |'
fi
for hop in 1 3 10; do row sww_conv1d $hop; done
for hop in 4 16 64; do row har_cnn1d $hop; done
for hop in 2 6 12; do row kws_dscnn $hop; done
echo
