#!/bin/sh
# test-runner.sh BINARY TRACTLET [EMULATOR...]: the program that runs plans alone answers on the int8 models as tractlet
# does on the ONNX files, bit for bit and letter for letter; refuses what it has to; and takes little memory.
#
# ISAS names the instruction sets to compile for; generic without it.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -ge 2 ] || { echo 'usage: test-runner.sh BINARY TRACTLET [EMULATOR...]' >&2; exit 2; }
binary=$1
tractlet=$2
shift 2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
plans=0

plan() { # ARGUMENT... after the emulator's
    if [ -n "$emulator" ]; then
        # shellcheck disable=SC2086 # the emulator and its arguments
        $emulator "$binary" "$@"
    else
        "$binary" "$@"
    fi
}
emulator=$*

refuses() { # CODE PART ARGUMENT...
    expected=$1
    part=$2
    shift 2
    code=0
    plan "$@" >"$scratch/out" 2>"$scratch/err" || code=$?
    [ "$code" -eq "$expected" ] || die "$*: exit code $code, not $expected"
    grep -qF "$part" "$scratch/err" || die "$*: no '$part' in: $(cat "$scratch/err")"
}

for model in models/*/int8.onnx; do
    folder=$(dirname "$model")
    "$tractlet" run "$model" --input "$folder/samples.npy" --output "$scratch/expected.npy" >/dev/null
    "$tractlet" run "$model" --input "$folder/samples.npy" >"$scratch/expected.txt"
    for isa in ${ISAS:-generic}; do
        "$tractlet" compile "$model" -o "$scratch/x.plan" --isa "$isa" >/dev/null
        plan run "$scratch/x.plan" --input "$folder/samples.npy" --output "$scratch/found.npy" >/dev/null
        cmp "$scratch/expected.npy" "$scratch/found.npy" || die "$model for $isa: another answer"
        plan run "$scratch/x.plan" --input "$folder/samples.npy" >"$scratch/found.txt"
        cmp "$scratch/expected.txt" "$scratch/found.txt" || die "$model for $isa: other text"
        plans=$((plans + 1))
    done
done
kws=models/kws_dscnn
"$tractlet" compile $kws/int8.onnx -o "$scratch/kws.plan" --isa generic >/dev/null
plan bench "$scratch/kws.plan" --runs 3 --warmup 1 --profile --json | grep -q '"allocations_per_run":0[,}]' ||
    die 'bench: a run allocates'
# What lies behind the header are frames of ten values, and windows that follow each other.
header=$(od -An -tu2 -j8 -N2 $kws/samples.npy | tr -d ' ')
values() { tr -d ' \n' | grep -o '"values":\[[^]]*' | sed 's/.*\[//' | paste -sd ,; }
tail -c +$((11 + header)) $kws/samples.npy | plan stream "$scratch/kws.plan" --channels 10 >"$scratch/stream"
plan run "$scratch/kws.plan" --input $kws/samples.npy --json | values >"$scratch/expected"
sed '$d' "$scratch/stream" | values | cmp - "$scratch/expected" || die 'stream: other answers than run'
tail -n 1 "$scratch/stream" | grep -q '"read":588,"answered":588,"skipped":0,"remainder":0}}$' || die 'stream: it counts otherwise'
# More than what a float holds.
whole=tests/golden/ops/pad_int64
"$tractlet" compile $whole/model.onnx -o "$scratch/whole.plan" --isa generic >/dev/null
"$tractlet" run $whole/model.onnx --input $whole/input_0.npy --json | values >"$scratch/expected"
grep -q '^-7,3491369749187612381,' "$scratch/expected"
plan run "$scratch/whole.plan" --input $whole/input_0.npy --json | values | cmp - "$scratch/expected" || die 'int64: other JSON'
"$tractlet" run $whole/model.onnx --input $whole/input_0.npy >"$scratch/expected.txt"
grep -q ' 3491369749187612381 ' "$scratch/expected.txt"
plan run "$scratch/whole.plan" --input $whole/input_0.npy | cmp - "$scratch/expected.txt" || die 'int64: other text'
# A name may have a slash, and so may a path.
LC_ALL=C sed 's|input|in/ut|g; s|output|out/ut|g' $kws/int8.onnx >"$scratch/slashes.onnx"
"$tractlet" compile "$scratch/slashes.onnx" -o "$scratch/slashes.plan" --isa generic >/dev/null
plan run "$scratch/kws.plan" --input $kws/samples.npy --output "$scratch/expected.npy" >/dev/null
plan run "$scratch/slashes.plan" --input in/ut=$kws/samples.npy --output "out/ut=$scratch/a=b.npy" >/dev/null
cmp "$scratch/expected.npy" "$scratch/a=b.npy" || die 'names with a slash: another answer'
refuses 1 'the plan has no input `in`; it has `in/ut`' run "$scratch/slashes.plan" --input in=$kws/samples.npy
refuses 1 'in/other=x.npy: cannot open it' run "$scratch/slashes.plan" --input in/other=x.npy
head -c 4001 $kws/samples.npy | refuses 1 'ended within a frame: 1 of its 40 bytes' stream "$scratch/kws.plan" --channels 10
plan footprint "$scratch/kws.plan" --json >"$scratch/footprint"
# It has no key of its own.
keys() { grep -o '"[a-z0-9_]*":' | sort -u; }
for command in "run --input $kws/samples.npy --labels $kws/labels.txt" 'bench --runs 2 --warmup 1 --profile' 'footprint --budget 1GiB'; do
    # shellcheck disable=SC2086 # a command and its options
    set -- $command
    verb=$1
    shift
    plan "$verb" "$scratch/kws.plan" "$@" --json | keys >"$scratch/found"
    "$tractlet" "$verb" "$scratch/kws.plan" "$@" --json | sed 's/": /":/' | keys >"$scratch/expected"
    own=$(comm -23 "$scratch/found" "$scratch/expected")
    [ -s "$scratch/found" ] && [ -z "$own" ] || die "$verb --json: tractlet has no" $own
done
refuses 1 'over budget: the plan' footprint "$scratch/kws.plan" --budget 4KiB
refuses 1 "make one: tractlet compile $kws/int8.onnx" run $kws/int8.onnx --input $kws/samples.npy
refuses 1 'No such file' run "$scratch/none.plan" --input $kws/samples.npy
refuses 1 'does not fit input' run "$scratch/kws.plan" --input $kws/golden_int8.npy
chmod 640 "$scratch/found.npy"
plan run "$scratch/kws.plan" --input $kws/samples.npy --output "$scratch/found.npy" >/dev/null
[ "$(stat -c %a "$scratch/found.npy")" = 640 ] || die 'an output has other permissions than the file that it takes the place of'
cp $kws/samples.npy "$scratch/x.npy"
cp $kws/labels.txt "$scratch/labels"
for read in x.npy kws.plan labels; do
    refuses 1 'an output would overwrite what is read' run "$scratch/kws.plan" --input "$scratch/x.npy" --labels "$scratch/labels" \
        --output "$scratch/../${scratch##*/}/$read"
done
cmp $kws/samples.npy "$scratch/x.npy"
outputs=tests/golden/ops/intermediate_f32_outputs
"$tractlet" compile $outputs/model.onnx -o "$scratch/outputs.plan" --isa generic >/dev/null
refuses 1 'output 1 would overwrite another' run "$scratch/outputs.plan" --input $outputs/input_0.npy \
    --output c3="$scratch/y.npy" --output r4="$scratch/./y.npy"
refuses 2 'no option `--inputs`' run "$scratch/kws.plan" --inputs x
"$tractlet" compile models/har_cnn1d/int8.onnx -o "$scratch/hop.plan" --isa generic --hop 16 >/dev/null
refuses 1 'takes 16 new rows of a window' run "$scratch/hop.plan" --input $kws/samples.npy
refuses 1 'takes 16 new rows of a window' stream "$scratch/hop.plan" --channels 6
"$tractlet" compile $kws/int8.onnx -o "$scratch/foreign.plan" --isa avx512vnni >/dev/null
refuses 1 'is for the instruction set avx512vnni, this CPU has ' run "$scratch/foreign.plan" --input $kws/samples.npy
printf '\377' | dd of="$scratch/kws.plan" bs=1 seek=9000 conv=notrunc 2>/dev/null
refuses 1 'checksum' run "$scratch/kws.plan" --input $kws/samples.npy
# An emulator's own memory would be counted.
if [ -z "$emulator" ]; then
    peak=$(sed 's/.*"run_peak_bytes":\([0-9]*\).*/\1/' "$scratch/footprint")
    total=$(sed 's/.*"total_bytes":\([0-9]*\).*/\1/' "$scratch/footprint")
    [ "$peak" -le $((total + 2097152)) ] || die "it takes $peak bytes for a plan of $total in all: more than 2 MiB of its own"
fi
[ "$(find "$scratch" -name '.tractlet-*' | wc -l)" -eq 0 ] || die 'files were left over'
echo "$binary: the answers to $plans plans equal tractlet's"
