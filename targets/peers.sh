#!/bin/sh
# peers.sh: instructions of one inference in ONNX Runtime and LiteRT, on the boards' 64-bit cores under QEMU, beside those
# of this repository's plan, as a table for docs/arm.md. PACK is the benchmark pack, whose models they are.
#
# The peers are their aarch64 wheels, on a Python of Debian's arm64 packages, all of it below target/peers. With the engine
# `tract` in dist/tractlet-aarch64 (make pi4) that is counted, too.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 0 ] || { echo 'usage: peers.sh' >&2; exit 2; }
pack=${PACK:-${TRACTLET_PACK:-}}
[ -d "$pack/peers" ] || die 'this needs the benchmark pack: PACK=dir'
slim=dist/tractlet-aarch64-slim
[ -e $slim ] || die "there is no $slim: first make pi4 SLIM=1"
wheels='onnxruntime==1.32.0 ai-edge-litert==2.3.0 numpy==2.4.6 flatbuffers protobuf packaging'
runs=10

peers=${CARGO_TARGET_DIR:-target}/peers
mkdir -p "$peers"
peers=$(cd "$peers" && pwd)
[ -e "$peers/ready" ] || {
    rm -rf "${peers:?}"/*
    mkdir -p "$peers/root/site" "$peers/root/proc"
    foreign_packages "$peers" arm64 libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 \
        python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
    for deb in "$peers"/debs/*.deb; do
        dpkg -x "$deb" "$peers/root"
    done
    python3 -m venv "$peers/venv"
    # shellcheck disable=SC2086 # a list of words
    "$peers/venv/bin/pip" install --quiet --no-deps --target "$peers/root/site" --python-version 3.11 \
        --implementation cp --abi cp311 --abi abi3 --abi none --only-binary=:all: --platform manylinux2014_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 $wheels
    touch "$peers/ready"
}
counter "$peers"

# Both read the CPU's part and features here, and end with a segmentation fault on what QEMU shows them: this machine's.
cpuinfo() { # CORE
    case $1 in
        cortex-a53) part=0xd03 features='' ;;
        cortex-a76) part=0xd0b features=' atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp' ;;
    esac
    for processor in 0 1 2 3; do
        printf 'processor\t: %s\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32%s\nCPU implementer\t: 0x41\n' \
            $processor "$features"
        printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 1\n\n' "$part"
    done >"$peers/root/proc/cpuinfo"
}

# Lines of a model's name and its thousands of instructions.
peer() { # CORE ENGINE MODEL...
    cpuinfo "$1"
    core=$1
    shift
    PYTHONHOME=/usr PYTHONPATH=/site PYTHONDONTWRITEBYTECODE=1 qemu-aarch64 -L "$peers/root" -cpu "$core" \
        -plugin "$counter" "$peers/root/usr/bin/python3.11" targets/peers.py $runs "$@" 2>"$peers/count" ||
        { cat "$peers/count" >&2; die "$1 failed on $core"; }
    awk -v runs=$runs '/^model / { sub(".*/", ""); sub("_int8.*", ""); name = $0; first = 0 }
        /^insns / && name { if (first) { printf "%s %.0f\n", name, ($2 - first) / runs / 1000; name = "" } else first = $2 }' \
        "$peers/count"
}

# tract would ask this machine's /proc/cpuinfo which core it has.
ours() { # CORE BINARY ENGINE MODEL
    inference "qemu-aarch64 -cpu $1 -E TRACT_CPU_AARCH64_KIND=${1#cortex-}" "$2" "$3" "$4"
}

onnx=
tflite=
for file in "$pack"/peers/*_int8.tflite; do
    tflite="$tflite $file"
    onnx="$onnx $pack/models/$(basename "$file" _int8.tflite)_int8_qdq_minmax.onnx"
done
for core in cortex-a53 cortex-a76; do
    # shellcheck disable=SC2086 # lists of files
    peer $core onnxruntime $onnx >"$peers/$core-onnxruntime"
    # shellcheck disable=SC2086
    peer $core litert $tflite >"$peers/$core-litert"
done
echo
echo '| model, thousands of instructions | core | plan | tract | ONNX Runtime | LiteRT |'
echo '| --- | --- | ---: | ---: | ---: | ---: |'
for model in $onnx; do
    name=$(basename "$model" _int8_qdq_minmax.onnx)
    for core in cortex-a53 cortex-a76; do
        tract=-
        [ ! -e dist/tractlet-aarch64 ] || tract=$(ours $core dist/tractlet-aarch64 tract "$model")
        plan=$(ours $core $slim plan "$model")
        of() { sed -n "s/^$name //p" "$peers/$core-$1"; }
        echo "| $name | $core | $plan | $tract | $(of onnxruntime) | $(of litert) |"
    done
done
echo
