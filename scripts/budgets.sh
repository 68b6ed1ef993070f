#!/bin/sh
# budgets.sh TRACTLET: writes models/*/budget.toml from what the plans of the int8 models state now.
#
# On the generic instruction set, which every machine has: others pack weights and use scratch in their own ways.
set -eu

[ $# -eq 1 ] || { echo 'usage: budgets.sh TRACTLET' >&2; exit 2; }
tractlet=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for model in models/*/int8.onnx; do
    TRACTLET_ISA=generic "$tractlet" footprint "$model" --engine plan --json >"$scratch/report"
    {
        echo '# What the plan of int8.onnx takes with TRACTLET_ISA=generic. Written by `make budgets`.'
        for part in total_bytes weights_bytes arena_bytes scratch_bytes; do
            # Once in the report, and a whole number, or there is no budget.
            sed -n "s/^ *\"$part\": \([0-9][0-9]*\),*$/$part = \1/p" "$scratch/report" | grep . ||
                { echo "$model: its report has no $part" >&2; exit 1; }
        done
    } >"$scratch/budget.toml"
    cp "$scratch/budget.toml" "$(dirname "$model")/budget.toml"
    echo "$(dirname "$model")/budget.toml: $(sed -n 's/^total_bytes = //p' "$scratch/budget.toml") bytes in all"
done
