#!/bin/sh
# rates.sh TRACTLET [SECONDS]: windows a second of the shipped recipes at full speed, and the share of a core that a stream takes
# while its recording is replayed at its real rate for so long.
set -eu

[ $# -ge 1 ] || { echo 'usage: rates.sh TRACTLET [SECONDS]' >&2; exit 2; }
tractlet=$1
seconds=${2:-20}
scratch=$(mktemp -d)
stream=
trap '[ -z "$stream" ] || kill "$stream"; rm -rf "$scratch"' EXIT

# The number behind a key that the summary has once.
field() {
    sed -n "s/^ *\"$1\": *\([0-9.]*\),*$/\1/p" "$scratch/summary"
}

# Nanoseconds that all threads of the stream were on a core.
on_core_ns() {
    cat /proc/"$stream"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

row() {
    name=$1
    repeat=$2
    shift 2
    sink=json:$scratch/decisions
    "$tractlet" stream "models/$name" "$@" --repeat "$repeat" --sink "$sink" --json >"$scratch/summary"
    windows=$(field windows)
    took=$(field seconds)
    "$tractlet" stream "models/$name" "$@" --repeat 0 --replay real --sink "$sink" --json >"$scratch/real" &
    stream=$!
    sleep 2
    before=$(on_core_ns)
    began=$(date +%s%N)
    sleep "$seconds"
    after=$(on_core_ns)
    ended=$(date +%s%N)
    kill "$stream"
    wait "$stream"
    stream=
    awk -v name="$name" -v windows="$windows" -v took="$took" -v ns="$((after - before))" -v of="$((ended - began))" \
        'BEGIN { printf "| %s | %.0f | %.2f %% |\n", name, windows / took, 100 * ns / of }'
}

# Frames of so many channels.
recording() {
    awk -v frames="$1" -v channels="$2" 'BEGIN { for (t = 0; t < frames; t++) {
        for (c = 1; c <= channels; c++) printf("%s%.4f", c > 1 ? "," : "", sin(t * c * 0.11) * 0.4)
        print "" } }'
}
recording 6000 6 >"$scratch/walk.csv"
recording 1000 128 >"$scratch/bands.csv"

echo '| recipe | windows a second at full speed | share of one core at real rate |'
echo '| --- | ---: | ---: |'
row kws_dscnn 20 --source models/kws_dscnn/words.wav
row har_cnn1d 50 --source "$scratch/walk.csv"
row ad_autoencoder 20 --source "$scratch/bands.csv"
