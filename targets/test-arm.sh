#!/bin/sh
# test-arm.sh: the tests on the shipped models, cross-compiled and run under QEMU on the cores of the boards, and
# every int8 model's outputs held against this machine's, bit for bit. Without the engine `tract`.
#
# HOST_TRACTLET is the binary of this machine to compare with; without it one is built.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 0 ] || { echo 'usage: test-arm.sh' >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Cores that stand for the boards': without and with dot products, and with all that QEMU knows.
cores() { # TRIPLE
    case $1 in
        aarch64-*) echo cortex-a53 cortex-a76 max ;;
        *) echo cortex-a7 ;;
    esac
}

# The outputs of every shipped int8 model, one file a model.
outputs() { # FOLDER PROGRAM...
    folder=$1
    shift
    mkdir -p "$folder"
    for model in models/*/int8.onnx; do
        name=$(basename "$(dirname "$model")")
        "$@" run "$model" --engine plan --input "models/$name/samples.npy" --output "$folder/$name.npy" >/dev/null
    done
}

for triple in aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf; do
    command -v "$(emulator "$triple")" >/dev/null ||
        die "there is no $(emulator "$triple") (Debian: qemu-user); targets/setup-cross.sh installs it"
    (use_toolchain "$triple")
done

host=${HOST_TRACTLET:-}
if [ -z "$host" ]; then
    cargo build --locked --quiet --bin tractlet
    host=${CARGO_TARGET_DIR:-target}/debug/tractlet
fi
outputs "$scratch/host" "$host"

for triple in aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf; do
    use_toolchain "$triple"
    cargo fetch --locked --quiet --target "$triple"
    CARGO_ENCODED_RUSTFLAGS=$(rustflags)
    export CARGO_ENCODED_RUSTFLAGS
    set -- --locked --quiet --profile emulated --no-default-features --target "$triple"
    cargo test "$@" --bin tractlet --test models --no-run
    binary=${CARGO_TARGET_DIR:-target}/$triple/emulated/tractlet
    targets/check-static.sh "$binary"
    for core in $(cores "$triple"); do
        echo "$triple on $core"
        emulator="$(emulator "$triple") -cpu $core"
        variable=CARGO_TARGET_$(echo "$triple" | tr 'a-z-' 'A-Z_')_RUNNER
        env "$variable=$emulator" cargo test "$@" --test models
        # shellcheck disable=SC2086 # the emulator and its arguments
        outputs "$scratch/$core" $emulator "$binary"
        for output in "$scratch"/host/*; do
            cmp "$output" "$scratch/$core/$(basename "$output")" ||
                die "$core and this machine differ on the int8 model $(basename "$output" .npy)"
        done
        echo "int8 outputs of $(find "$scratch/host" -type f | wc -l) models equal this machine's"
    done
done
