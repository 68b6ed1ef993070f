#!/bin/sh
# rates.sh TRACTLET [SECONDS]: windows of the shipped recipes in a second of processor time at full speed, and the share of a core
# that a stream takes while its recording is replayed at its real rate for so long. Both count the time that threads are on a core:
# what else the machine does hardly shows.
#
# WALK and BANDS name recordings for har_cnn1d and ad_autoencoder, CSV in the models' units; without them they are made up.
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

# Seconds on a core of all that has ended; in a pipe they would be a subshell's.
ended_s() {
    times >"$scratch/times"
    awk 'NR == 2 { gsub(/[ms]/, " "); print 60 * $1 + $2 + 60 * $3 + $4 }' "$scratch/times"
}

row() {
    name=$1
    repeat=$2
    shift 2
    sink=json:$scratch/decisions
    ended_s >"$scratch/from"
    "$tractlet" stream "models/$name" "$@" --repeat "$repeat" --sink "$sink" --json >"$scratch/summary"
    ended_s >"$scratch/to"
    windows=$(field windows)
    [ "$(field dropped)" -eq 0 ] || { echo "rates.sh: $name dropped $(field dropped) frames" >&2; exit 1; }
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
    awk -v name="$name" -v windows="$windows" -v from="$(cat "$scratch/from")" -v to="$(cat "$scratch/to")" \
        -v ns="$((after - before))" -v of="$((ended - began))" \
        'BEGIN { printf "| %s | %.0f | %.2f %% |\n", name, windows / (to - from), 100 * ns / of }'
}

# Frames of so many channels.
recording() {
    awk -v frames="$1" -v channels="$2" 'BEGIN { for (t = 0; t < frames; t++) {
        for (c = 1; c <= channels; c++) printf("%s%.4f", c > 1 ? "," : "", sin(t * c * 0.11) * 0.4)
        print "" } }'
}
[ -n "${WALK:-}" ] || recording 6000 6 >"${WALK:=$scratch/walk.csv}"
[ -n "${BANDS:-}" ] || recording 1000 128 >"${BANDS:=$scratch/bands.csv}"
recording 3000 40 >"$scratch/features.csv"
# Enough windows that loading is a hundredth of the time.
times_through() { # FRAMES FILE
    echo $(($1 / $(wc -l <"$2") + 1))
}

echo '| recipe | windows in a second of processor time | share of one core at real rate |'
echo '| --- | ---: | ---: |'
row kws_dscnn 500 --source models/kws_dscnn/words.wav
row har_cnn1d "$(times_through 3000000 "$WALK")" --source "$WALK"
row ad_autoencoder "$(times_through 50000 "$BANDS")" --source "$BANDS"
row sww_conv1d "$(times_through 100000 "$scratch/features.csv")" --source "$scratch/features.csv"
