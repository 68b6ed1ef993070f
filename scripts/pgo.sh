#!/bin/sh
# pgo.sh: a whole cycle of profile-guided optimisation: a program that counts what it does, run on the shipped models; one
# that is built by those counts; and how long an inference takes in it beside the plain one, and, where there is QEMU, how many
# instructions: these repeat, times on a busy machine do not. Left in target/pgo/.
#
#   SLIM=1         without the engine tract, which the shipped models do not need
#   PROFILE        a profile of Cargo.toml other than dist, and slim with SLIM=1
#   ROUNDS         how often each program is measured on each model, in turn; default 7
#   LLVM_PROFDATA  the tool that adds counts up, of the LLVM that rustc has
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profile=${PROFILE:-$([ -n "${SLIM:-}" ] && echo slim || echo dist)}
folder=${CARGO_TARGET_DIR:-target}/pgo
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# Counts have the format of one LLVM, and only its tool reads them.
profdata() {
    for tool in "${LLVM_PROFDATA:-}" "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
        "llvm-profdata-$llvm" "/usr/lib/llvm-$llvm/bin/llvm-profdata" llvm-profdata; do
        if [ -n "$tool" ] && "$tool" --version 2>/dev/null | grep -q "LLVM version $llvm\."; then
            echo "$tool"
            return
        fi
    done
    die "there is no llvm-profdata of LLVM $llvm, rustc's; either of these brings it:
  rustup component add llvm-tools
  apt-get install llvm-$llvm
or name one: LLVM_PROFDATA=..."
}

build() { # NAME FLAG
    CARGO_ENCODED_RUSTFLAGS=$2 cargo build --locked --quiet --profile "$profile" --target "$host" --target-dir "$folder/build" \
        ${SLIM:+--no-default-features --features mqtt} --bin tractlet || die "the program $1 does not build"
    cp "$folder/build/$host/$profile/tractlet" "$folder/$1"
}

tool=$(profdata)
[ "$profile" != dev ] || die 'PROFILE=dev: what is not optimised is not optimised by a profile either'
echo "plain, $profile"
build plain ''
echo 'with counters'
build counting "-Cprofile-generate=$folder/counts"
rm -rf "$folder/counts"
for model in models/*/*.onnx; do
    # Loading is part of what a board does, and so is a run on samples.
    "$folder/counting" bench "$model" --engine plan --warmup 0 --runs 50 >/dev/null
    "$folder/counting" run "$model" --engine plan --input "$(dirname "$model")/samples.npy" --json >/dev/null
done
"$tool" merge -o "$folder/merged.profdata" "$folder/counts"
echo 'by the counts'
build guided "-Cprofile-use=$folder/merged.profdata"

median() { # PROGRAM MODEL
    "$folder/$1" bench "$2" --engine plan --json | sed -n 's/^ *"median_us": *\([0-9.]*\),*$/\1/p'
}

emulator=qemu-$(uname -m)
if command -v "$emulator" >/dev/null; then
    counter "$folder"
else
    emulator=
    echo "instructions are not counted: there is no qemu-$(uname -m) (Debian: qemu-user)"
fi

# Of an inference in each program, and their ratio.
instructions() { # MODEL
    [ -n "$emulator" ] || { echo '- | - | -'; return; }
    plain=$(inference "$emulator -cpu max" "$folder/plain" plan "$1")
    guided=$(inference "$emulator -cpu max" "$folder/guided" plan "$1")
    awk -v plain="$plain" -v guided="$guided" 'BEGIN { printf "%d k | %d k | %.3f\n", plain, guided, guided / plain }'
}

# Times in turn, and the best of each: what else the machine does only makes them slower.
echo
echo '| model | plain, us | guided, us | ratio | plain, instructions | guided | ratio |'
echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: |'
for model in models/*/*.onnx; do
    counts=$(instructions "$model")
    round=0
    while [ $round -lt "${ROUNDS:-7}" ]; do
        echo "$(median plain "$model") $(median guided "$model")"
        round=$((round + 1))
    done | awk -v counts="$counts" -v model="$(echo "$model" | sed 's|models/||; s|\.onnx||')" '
        NR == 1 || $1 < plain { plain = $1 }
        NR == 1 || $2 < guided { guided = $2 }
        END { printf "| %s | %.1f | %.1f | %.3f | %s |\n", model, plain, guided, guided / plain, counts }'
done | tee "$folder/table"
mean() { # WHAT COLUMN
    awk -F '|' -v what="$1" -v column="$2" '{ product += log($column); count++ }
        END { printf "geometric mean of the ratios of %s: %.3f\n", what, exp(product / count) }' "$folder/table"
}
echo
mean times 5
[ -z "$emulator" ] || mean instructions 8
echo "bytes: plain $(wc -c <"$folder/plain"), guided $(wc -c <"$folder/guided")"
