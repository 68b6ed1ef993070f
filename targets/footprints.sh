#!/bin/sh
# footprints.sh FOLDER PROGRAM...: measures every shipped model's footprint and latency and leaves the reports in
# FOLDER, as <model>-<file>-footprint.json and <model>-<file>-bench.json. From the folder that models/ is in.
set -eu

folder=$1
shift
mkdir -p "$folder"
for model in models/*/*.onnx; do
    name=$(basename "$(dirname "$model")")-$(basename "$model" .onnx)
    "$@" footprint "$model" --json >"$folder/$name-footprint.json"
    "$@" bench "$model" --json >"$folder/$name-bench.json"
done
