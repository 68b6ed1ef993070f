#!/bin/sh
# outputs.sh FOLDER PROGRAM...: runs every shipped int8 model on its samples, in integers, and leaves the
# answers in FOLDER, one .npy a model. From the folder that models/ is in; needs nothing else there.
set -eu

folder=$1
shift
mkdir -p "$folder"
for model in models/*/int8.onnx; do
    name=$(basename "$(dirname "$model")")
    "$@" run "$model" --engine plan --input "models/$name/samples.npy" --output "$folder/$name.npy" >/dev/null
done
