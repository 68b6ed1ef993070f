#!/bin/sh
# mca.sh: instructions, products and cycles of the kernels' inner loops on ARM cores, by llvm-mca, as a table for
# docs/arm.md. MCA names the program: of LLVM 16 or newer, which has a model of the Neoverse N1, a Cortex-A76 for servers.
#
# An inner loop is the one of a kernel with the most products. llvm-mca supposes that all loads hit the first cache.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 0 ] || { echo 'usage: mca.sh' >&2; exit 2; }
mca=${MCA:-llvm-mca}
command -v "$mca" >/dev/null || die "there is no $mca (Debian: llvm)"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

assembly() { # TRIPLE
    (use_toolchain "$1"
    # Without lines of the source, whose labels would part loops.
    CARGO_PROFILE_RELEASE_DEBUG=false cargo rustc --locked --quiet --release --target "$1" -p tractlet-core --features alloc,std --lib \
        --target-dir "${CARGO_TARGET_DIR:-target}/mca" -- --emit asm
    cat "${CARGO_TARGET_DIR:-target}/mca/$1"/release/deps/tractlet_core-*.s)
}

# The loop with the most instructions that begin so, to a file.
inner_loop() { # ASSEMBLY PATTERN FILE
    awk -v pattern="$2" '
        /^[^ \t#\/@]+:/ { label = $1; sub(":.*", "", label); lines = ""; count = 0; next }
        /^[ \t]*[.#@\/]/ { next }
        {
            lines = lines $0 "\n"
            if ($0 ~ "^[ \t]*(" pattern ")") count++
            target = $NF
            if (target ~ /^[0-9]+b$/) sub("b$", "", target)
            if ($1 ~ /^(b[.a-z]*|cbn?z)$/ && target == label && count > most) { most = count; best = lines }
        }
        END { printf "%s", best }' "$1" >"$3"
    [ -s "$3" ] || die "no loop has $2"
}

# Cycles of one round, from a hundred of them.
cycles() { # TRIPLE CORE FEATURES FILE
    "$mca" -mtriple="$1" -mcpu="$2" -mattr="$3" -iterations=100 "$4" 2>"$scratch/error" |
        awk '/^Total Cycles:/ { printf "%.1f", $3 / 100 }' | grep . || { cat "$scratch/error" >&2; die "$2: llvm-mca failed"; }
}

row() { # TRIPLE WHAT PATTERN PRODUCTS CORE...
    inner_loop "$scratch/$1.s" "$3" "$scratch/loop.s"
    printf '| %s | %s | %s |' "$2" "$(grep -c . "$scratch/loop.s")" "$(($(grep -cE "^[[:space:]]*($3)" "$scratch/loop.s") * $4))"
    features=+dotprod,+i8mm
    case $1 in arm*) features=+neon ;; esac
    for core in cortex-a53 cortex-a72 neoverse-n1; do
        case " $5 " in *" $core "*) printf ' %s |' "$(cycles "$1" $core $features "$scratch/loop.s")" ;; *) printf ' - |' ;; esac
    done
    echo
}

a64=aarch64-unknown-linux-gnu
a32=armv7-unknown-linux-gnueabihf
for triple in $a64 $a32; do
    assembly "$triple" >"$scratch/$triple.s"
done
all='cortex-a53 cortex-a72 neoverse-n1'
echo
echo '| inner loop | instructions | products | cycles, Cortex-A53 | Cortex-A72 | Neoverse N1 |'
echo '| --- | ---: | ---: | ---: | ---: | ---: |'
row $a64 'neon, dense, 4 pixels x 8 channels' 'sm(ul|la)l2?.*[.]8h' 8 "$all"
row $a64 'neon, 3x3 by minimal filtering' 'smlal2?.*[.]4s' 4 "$all"
row $a64 'neon, depthwise, 4 pixels x 16 channels' 'fmla.*[.]4s$' 4 "$all"
row $a64 'neondotprod, dense, 6 pixels x 16 channels' sdot 16 neoverse-n1
row $a64 'neoni8mm, dense, 6 pixels x 16 channels' smmla 32 neoverse-n1
row $a32 'neon32, dense, 4 pixels x 8 channels' vmlal.s16 4 cortex-a72
row $a32 'neon32, depthwise, 2 pixels x 16 channels' vmla.f32 4 cortex-a72
echo
