#!/usr/bin/env bash
# loading.sh TRACTLET [MODEL.onnx...]: heap and time that loading takes on the plan engine, of a model, of its plan and of a
# model whose plan is in the cache, as the table of core/benches/memory.md. Without models, those that are shipped.
#
# Time is from the start of the process to the end of its first inference, less what `tractlet --version` takes: the
# median of 21 rounds, in each of which every file has its turn. ROUNDS=n takes others.
set -euo pipefail

[ $# -ge 1 ] || { echo 'usage: loading.sh TRACTLET [MODEL.onnx...]' >&2; exit 2; }
tractlet=$1
shift
[ $# -gt 0 ] || set -- models/*/*.onnx
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Microseconds that a command takes, added to a file of them.
timed() {
    local into=$1 start end
    shift
    start=$EPOCHREALTIME
    "$@" >/dev/null
    end=$EPOCHREALTIME
    echo $((${end/[.,]/} - ${start/[.,]/})) >>"$into"
}

median() {
    sort -n "$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

# What the table calls it: kws_dscnn/int8, or the name of the file.
label() {
    local name=${1#models/}
    [ "$name" != "$1" ] || name=$(basename "$1")
    echo "${name%.onnx}"
}

heap() {
    "$tractlet" footprint "$1" --engine plan --json | sed -n 's/^ *"load_heap_peak_bytes": *\([0-9]*\),*$/\1/p'
}

for model in "$@"; do
    "$tractlet" compile "$model" -o "$scratch/$(basename "$(dirname "$model")")_$(basename "$model").plan" >/dev/null
done
mkdir "$scratch/cache"
for model in "$@"; do
    "$tractlet" bench "$model" --plan-cache "$scratch/cache" --runs 1 --warmup 0 >/dev/null
done
for ((round = 0; round < ${ROUNDS:-21}; round++)); do
    timed "$scratch/start" "$tractlet" --version
    for model in "$@"; do
        name=$(basename "$(dirname "$model")")_$(basename "$model")
        timed "$scratch/$name.onnx_us" "$tractlet" bench "$model" --engine plan --runs 1 --warmup 0
        timed "$scratch/$name.plan_us" "$tractlet" bench "$scratch/$name.plan" --runs 1 --warmup 0
        timed "$scratch/$name.cache_us" "$tractlet" bench "$model" --plan-cache "$scratch/cache" --runs 1 --warmup 0
    done
done

processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
start=$(median "$scratch/start")
echo
echo "$(uname -m), ${processor:-processor unknown}; $("$tractlet" --version); the program alone takes $start us"
echo
echo '| model | file | heap, .onnx | of the file | first output | heap, .plan | first output | from the cache |'
echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
for model in "$@"; do
    name=$(basename "$(dirname "$model")")_$(basename "$model")
    of_model=$(heap "$model")
    of_plan=$(heap "$scratch/$name.plan")
    awk -v name="$(label "$model")" -v file="$(wc -c <"$model")" -v model="$of_model" -v plan="$of_plan" -v start="$start" \
        -v model_us="$(median "$scratch/$name.onnx_us")" -v plan_us="$(median "$scratch/$name.plan_us")" \
        -v cache_us="$(median "$scratch/$name.cache_us")" 'BEGIN {
            printf "| %s | %.0f KiB | %.0f KiB | %.2f | %.1f ms | %.0f KiB | %.1f ms | %.1f ms |\n", name, file / 1024,
                model / 1024, model / file, (model_us - start) / 1000, plan / 1024, (plan_us - start) / 1000,
                (cache_us - start) / 1000
        }'
done
