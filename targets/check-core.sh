#!/bin/sh
# check-core.sh: `core` compiles for a Cortex-M4 with its DSP extension, without an operating system or a heap. Checked, not
# linked: `make firmware` runs it.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

use_core
# shellcheck disable=SC2086 # nothing, or an option
cargo check --locked --quiet --profile emulated $build_core --target $bare_metal -p tractlet-core --features dsp
echo "core compiles for $bare_metal"
