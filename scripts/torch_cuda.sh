#!/usr/bin/env bash
# Holds the engine `torch` on a CUDA device against the CPU: torch_cuda.sh TRACTLET
#
# TRACTLET has the feature `torch`; LD_LIBRARY_PATH has the libraries of a libtorch with CUDA. Prints what it finds, and
# fails where the answers differ or the device was not used.
set -euo pipefail
cd "$(dirname "$0")/.."
tractlet=$(realpath "$1")
model=tests/golden/torch/kws_dscnn.pt
onnx=models/kws_dscnn/f32.onnx
samples=models/kws_dscnn/samples.npy
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo '== the same words on both devices'
for device in cpu cuda; do
    "$tractlet" run $model --input $samples --labels models/kws_dscnn/labels.txt --top 1 --device $device |
        awk '{ print $2 }' >"$scratch/$device"
    diff "$scratch/$device" models/kws_dscnn/expected.txt
    echo "$device: $(wc -l <"$scratch/$device") of 12 words right"
done

echo '== against the ONNX model'
compare() { "$tractlet" compare $model $onnx --inputs $samples --device cuda | tail -n 1; }
# cuDNN may round the operands of a convolution to TF32; the variable forbids it.
echo "cuda: $(compare)"
echo "cuda, without TF32: $(NVIDIA_TF32_OVERRIDE=0 compare)"
compare | grep -qF 'the same largest value on 100.0 % of 12 samples'

echo '== latency'
for device in cpu cuda; do
    echo "$device: $("$tractlet" bench $model --shape 1x1x49x10 --device $device | grep ^median)"
done

echo '== a device that is not there is refused'
if "$tractlet" bench $model --shape 1x1x49x10 --device cuda:255 2>"$scratch/refused"; then
    echo 'cuda:255 was taken' >&2
    exit 1
fi
grep 'libtorch finds [1-9][0-9]* CUDA devices here' "$scratch/refused"
echo 'cuda: ok'
