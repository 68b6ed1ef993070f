#!/usr/bin/env bash
# Tests the feature `torch`: test_torch.sh TARGET-DIRECTORY
#
# LIBTORCH=dir has the libtorch to use. Without it the wheel of PyPI is installed into TARGET-DIRECTORY/torch-venv, as
# little of it as the CPU needs (1.2 GB). Where neither is to be had nothing is tested: that is said, and is a failure
# unless OPTIONAL=1. CUDA=1 also runs scripts/torch_cuda.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
venv=$target/torch-venv

# What tch in Cargo.toml is for, and the two libraries of CUDA that its CPU half is linked to all the same.
packages=(torch==2.11.0 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cupti==13.0.*')

# What is switched on by 1 is off by 0.
for switch in OPTIONAL CUDA; do
    case ${!switch:-} in 0 | no) unset "$switch" ;; esac
done

skip() {
    echo "test-torch: SKIPPED, nothing was tested: $1" >&2
    [[ -n ${OPTIONAL:-} ]] && exit 0
    echo 'test-torch: OPTIONAL=1 would let that pass' >&2
    exit 1
}

if [[ -z ${LIBTORCH:-} ]]; then
    if [[ ! -e $venv/ready ]]; then
        python3 -m venv "$venv" || skip 'python3 makes no virtual environment (Debian: python3-venv)'
        "$venv/bin/pip" install --quiet --no-cache-dir --no-compile --no-deps "${packages[@]}" ||
            skip "pip cannot install ${packages[0]}"
        touch "$venv/ready"
    fi
    LIBTORCH=$(realpath "$venv"/lib/python3*/site-packages/torch)
fi
[[ -e $LIBTORCH/lib/libtorch_cpu.so ]] || skip "there is no libtorch in $LIBTORCH"
missing=$(ldd "$LIBTORCH/lib/libtorch_cpu.so" | awk '/not found/ { print $1 }' | sort -u | paste -sd ' ')
[[ -z $missing ]] || skip "libtorch_cpu.so lacks $missing"

export LIBTORCH
export LD_LIBRARY_PATH=$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
cargo test --features torch --test torch
cargo test --features torch --lib --bin tractlet torch
cargo test --features torch --doc torch
if [[ -n ${CUDA:-} ]]; then
    scripts/torch_cuda.sh "$target/debug/tractlet"
fi
