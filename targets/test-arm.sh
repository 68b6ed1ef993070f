#!/bin/sh
# test-arm.sh: tests cross-compiled and run under QEMU on the cores of the boards: the shipped models against their
# golden outputs, the integer kernels against their plain twins, the float ones against their definition, and every int8
# model's outputs against this machine's, bit for bit. Without the engine `tract`. Then the program that runs plans alone,
# for aarch64; and `core`, which needs no operating system, is checked for a Cortex-M4.
#
# HOST_TRACTLET is the binary of this machine to compare with; without it one is built.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 0 ] || { echo 'usage: test-arm.sh' >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
triples='aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf'
target=${CARGO_TARGET_DIR:-target}

# Cores that stand for the boards': without and with dot products, without NEON where there are such, and last with all
# that QEMU knows.
cores() { # TRIPLE
    case $1 in
        aarch64-*) echo cortex-a53 cortex-a76 max ;;
        *) echo cortex-a7,neon=off cortex-a7 ;;
    esac
}

# One of the test programs, which are the same for every core.
tests() { # RUNNER TRIPLE ARGUMENT...
    runner=$1
    variable=CARGO_TARGET_$(echo "$2" | tr 'a-z-' 'A-Z_')_RUNNER
    triple=$2
    shift 2
    env "$variable=$runner" cargo test --locked --quiet --profile emulated --target "$triple" "$@"
}

set -- --locked --quiet --profile emulated
for triple in $triples; do
    command -v "$(emulator "$triple")" >/dev/null ||
        die "there is no $(emulator "$triple") (Debian: qemu-user); targets/setup-cross.sh installs it"
    use_toolchain "$triple"
    cargo fetch --locked --quiet --target "$triple"
    set -- "$@" --target "$triple"
done
CARGO_ENCODED_RUSTFLAGS=$(rustflags)
export CARGO_ENCODED_RUSTFLAGS
echo 'building'
cargo test "$@" --no-run --no-default-features --test models
cargo test "$@" --no-run -p tractlet-core --features alloc,std --lib --test convolutions

# Not before the others, since it may be what somebody builds just now; with the compiler of this machine.
HOST_TRACTLET=${HOST_TRACTLET:-}
if [ -z "$HOST_TRACTLET" ]; then
    env -u CARGO_ENCODED_RUSTFLAGS -u RUSTC -u RUSTDOC cargo build --locked --quiet --bin tractlet
    HOST_TRACTLET=$target/debug/tractlet
fi
targets/outputs.sh "$scratch/host" "$HOST_TRACTLET"

on_cores() { # TRIPLE
    binary=$target/$1/emulated/tractlet
    targets/check-static.sh "$binary"
    for core in $(cores "$1"); do
        echo "$1 on $core"
        emulator="$(emulator "$1") -cpu $core"
        # shellcheck disable=SC2086 # the emulator and its arguments
        targets/outputs.sh "$scratch/$core" $emulator "$binary"
        for output in "$scratch"/host/*; do
            cmp "$output" "$scratch/$core/$(basename "$output")" ||
                die "$core and this machine differ on the int8 model $(basename "$output" .npy)"
        done
        echo "the outputs of $(find "$scratch/host" -type f | wc -l) int8 models equal this machine's"
    done
    # The last core has every instruction that there are kernels for.
    tests "$emulator" "$1" --no-default-features --test models
    tests "$emulator" "$1" -p tractlet-core --features alloc,std --test convolutions
    tests "$emulator" "$1" -p tractlet-core --features alloc,std --lib kernels::conv_f32
}

# Both platforms at once: nothing is left to build.
for triple in $triples; do
    # Not `on_cores && echo`: there a failure within would not end it.
    (
        on_cores "$triple"
        echo passed
    ) >"$scratch/$triple.log" 2>&1 &
done
wait
for triple in $triples; do
    cat "$scratch/$triple.log"
    [ "$(tail -n 1 "$scratch/$triple.log")" = passed ] || die "$triple: it failed, see above"
done

unset CARGO_ENCODED_RUSTFLAGS
targets/build-runner.sh pi4
ISAS='generic neon neondotprod neoni8mm' targets/test-runner.sh dist/tractlet-plan-aarch64 "$HOST_TRACTLET" qemu-aarch64 -cpu max
targets/check-core.sh
