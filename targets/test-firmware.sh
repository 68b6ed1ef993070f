#!/bin/sh
# test-firmware.sh: plans on a Cortex-M4 without an operating system, under QEMU: the outputs on the first sample equal this
# machine's, bit for bit. Then fixed-point features of sound on a Cortex-M3, which has no FPU: they equal this machine's too, and
# no function that stands in for an FPU is linked. Prints what each takes.
#
# HOST_TRACTLET is the binary of this machine; without it one is built.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

triple=$bare_metal
for tool in qemu-system-arm arm-linux-gnueabihf-ld arm-linux-gnueabihf-size; do
    command -v $tool >/dev/null || die "there is no $tool (Debian: qemu-system-arm, binutils-arm-linux-gnueabihf)"
done
use_core
tractlet=${HOST_TRACTLET:-}
if [ -z "$tractlet" ]; then
    (unset RUSTC RUSTC_BOOTSTRAP; cargo build --locked --quiet --bin tractlet)
    tractlet=${CARGO_TARGET_DIR:-target}/debug/tractlet
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The first elements of a .npy file of version 1, as they lie there.
elements() { # FILE BYTES
    header=$(od -An -tu2 -j8 -N2 "$1" | tr -d ' ')
    dd if="$1" bs=1 skip=$((10 + header)) count="$2" 2>/dev/null
}

for name in kws_dscnn har_cnn1d; do
    model=models/$name
    "$tractlet" compile $model/int8.onnx -o "$scratch/x.plan" --isa generic --json >"$scratch/plan.json"
    number() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" "$scratch/plan.json"; }
    FIRMWARE_ARENA=$(($(number arena_bytes) + $(number scratch_bytes)))
    "$tractlet" run "$scratch/x.plan" --input $model/samples.npy --output "$scratch/y.npy" >/dev/null 2>&1 ||
        "$tractlet" run $model/int8.onnx --input $model/samples.npy --output "$scratch/y.npy" >/dev/null
    shape() { "$tractlet" inspect $model/int8.onnx --json | sed -n "/\"$1\": \[/,/^  \]/p" | sed -n '/"shape"/,/\]/p' |
        tr -dc '0-9\n' | grep . | paste -sd '*'; }
    FIRMWARE_PLAN=$scratch/x.plan FIRMWARE_INPUT=$scratch/x.input
    export FIRMWARE_PLAN FIRMWARE_INPUT FIRMWARE_ARENA
    elements $model/samples.npy $((4 * $(shape inputs))) >"$FIRMWARE_INPUT"
    elements "$scratch/y.npy" $((4 * $(shape outputs))) | od -An -v -tx4 -w4 | tr -d ' ' | sed 's/^/output /' >"$scratch/expected"
    # shellcheck disable=SC2086 # nothing, or an option
    (cd targets/firmware && cargo build --locked --quiet --release --target-dir target --bin tractlet-firmware $build_core --target $triple \
        --config "target.$triple.linker='arm-linux-gnueabihf-ld'" \
        --config "target.$triple.rustflags=['-Clinker-flavor=ld']")
    firmware=targets/firmware/target/$triple/release/tractlet-firmware
    timeout 120 qemu-system-arm -M mps2-an386 -nographic -monitor none -serial none -semihosting-config enable=on,target=native \
        -kernel $firmware >"$scratch/found" || die "$name: it failed: $(cat "$scratch/found")"
    grep '^output' "$scratch/found" | cmp - "$scratch/expected" || die "$name: other outputs than this machine's"
    code=$(arm-linux-gnueabihf-size -A $firmware | awk '$1 == ".text" { print $2 }')
    echo "$name: outputs equal this machine's; code $code, $(grep -v '^output' "$scratch/found" | tr '\n' ',' | sed 's/,$//; s/,/, /g')"
done

# The first second of sound behind the header.
tail -c +45 models/kws_dscnn/words.wav | head -c 32000 >"$scratch/sound"
export FIRMWARE_INPUT="$scratch/sound"
(unset RUSTC RUSTC_BOOTSTRAP; cargo run --locked --quiet -p tractlet-core --example mfcc "$scratch/sound") >"$scratch/expected"
[ "$(grep -c '^feature' "$scratch/expected")" -eq 490 ] || die 'this machine made no features'
bare_metal=$no_fpu
use_core
features() { # FEATURES
    # shellcheck disable=SC2086 # nothing, or an option
    (cd targets/firmware && cargo build --locked --quiet --release --target-dir target --bin mfcc --features "$1" $build_core --target $no_fpu \
        --config "target.$no_fpu.linker='arm-linux-gnueabihf-ld'" \
        --config "target.$no_fpu.rustflags=['-Clinker-flavor=ld']")
    timeout 120 qemu-system-arm -M mps2-an385 -icount shift=0 -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -kernel $firmware >"$scratch/found" ||
        die "features failed: $(cat "$scratch/found")"
    instructions=$(sed -n 's/^instructions //p' "$scratch/found")
    code=$(arm-linux-gnueabihf-size -A $firmware | awk '$1 == ".text" || $1 == ".rodata" { sum += $2 } END { print sum }')
    # What stands in for an FPU: __aeabi_fadd, __muldf3, __floatsisf and their like.
    floats=$(arm-linux-gnueabihf-nm $firmware |
        grep -cE '__aeabi_(c?[fd][a-z]|u?[il]2[fd])|__(add|sub|mul|div|cmp|neg|fix|fixuns|float|floatun|extend|trunc)[a-z]*[sd]f' || true)
}
firmware=targets/firmware/target/$no_fpu/release/mfcc
features float
[ "$floats" -gt 0 ] || die 'a program in floats links no function of theirs: they have other names than is thought here'
echo "mfcc in floats: $instructions instructions a second of sound, code and tables $((code - 32000)), $(grep stack_bytes "$scratch/found")"
features ''
[ "$floats" -eq 0 ] || die "mfcc in fixed point links $floats functions that compute with floats"
grep '^feature' "$scratch/found" | cmp - "$scratch/expected" || die 'mfcc: other features than this machine makes'
echo "mfcc in fixed point: equal this machine's; $instructions instructions a second of sound, code and tables $((code - 32000))," \
    "$(grep stack_bytes "$scratch/found")"
