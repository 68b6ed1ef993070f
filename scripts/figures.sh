#!/bin/sh
# figures.sh TRACTLET [DATA]: latency, memory and quality of every shipped model, as the README's table.
#
# DATA holds <model>_x.npy and <model>_y.npy, as the benchmark pack's prepare.py writes them; without it
# there is no column for quality.
set -eu

[ $# -ge 1 ] || { echo 'usage: figures.sh TRACTLET [DATA]' >&2; exit 2; }
tractlet=$1
data=${2:-}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The number behind a key that the report has once.
field() {
    sed -n "s/^ *\"$2\": *\([0-9.]*\),*$/\1/p" "$scratch/$1"
}

kib() {
    awk -v bytes="$1" 'BEGIN { printf "%.0f KiB", bytes / 1024 }'
}

mib() {
    awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'
}

quality() {
    case $1 in
        har_cnn1d) set -- "$1" "$2" har_cnn1d_6ch ;;
        *) set -- "$1" "$2" "$1" ;;
    esac
    metric=top1
    [ "$1" != ad_autoencoder ] || metric='auc --group 196'
    # shellcheck disable=SC2086 # the metric is an option with its argument
    "$tractlet" eval "$2" --inputs "$data/$3_x.npy" --labels "$data/$3_y.npy" --metric $metric --json >"$scratch/eval"
    awk -v metric="${metric%% *}" -v value="$(field eval value)" 'BEGIN { printf " %s %.4f |", metric, value }'
}

profile=$(basename "$(dirname "$tractlet")")
processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
echo
echo "$(uname -m), ${processor:-processor unknown}; $("$tractlet" --version), profile $profile, one thread"
echo
printf '| model | file | engine | median | allocations a run | heap, peak | resident, peak |'
[ -z "$data" ] || printf ' quality |'
printf '\n| --- | ---: | --- | ---: | ---: | ---: | ---: |'
[ -z "$data" ] || printf ' --- |'
echo
for model in models/*/*.onnx; do
    name=${model#models/}
    "$tractlet" bench "$model" --json >"$scratch/bench"
    "$tractlet" footprint "$model" --json >"$scratch/footprint"
    engine=$(sed -n 's/^ *"engine": *"\([a-z]*\)".*/\1/p' "$scratch/bench" | head -n 1)
    loading=$(field footprint load_peak_bytes)
    running=$(field footprint run_peak_bytes)
    [ "$loading" -gt "$running" ] && resident=$loading || resident=$running
    printf '| %s | %s | %s | %.0f us | %.0f | %s | %s |' "${name%.onnx}" "$(kib "$(wc -c <"$model")")" "$engine" \
        "$(field bench median_us)" "$(field bench allocations_per_run)" \
        "$(kib "$(field footprint heap_peak_bytes)")" "$(mib "$resident")"
    [ -z "$data" ] || quality "${name%/*}" "$model"
    echo
done
echo
