#!/bin/sh
# board-figures.sh [BINARY...]: how large the boards' binaries in dist/ are, all of them or those named, and how much memory
# `run` has resident at its peak on two of the shipped models, as the README's table.
#
# Measured on Linux for arm64, Debian's, on an emulated Cortex-A53, which runs 32-bit binaries as well: an emulator of
# programs alone, qemu-user, is itself part of what this machine's kernel counts.
#
# HOST_TRACTLET is the binary of this machine, which compiles the plans for tractlet-plan.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

# What `make board-figures` builds.
[ $# -gt 0 ] || set -- tractlet-aarch64 tractlet-aarch64-slim tractlet-plan-aarch64 tractlet-armv7 tractlet-armv7-slim \
    tractlet-plan-armv7 tractlet-armv6-slim
: "${HOST_TRACTLET:?names the binary of this machine, which compiles plans}"
models='kws_dscnn har_cnn1d'
compiler=$(gnu "$(field pi-zero-2w triple)")-gcc
for tool in qemu-system-aarch64 cpio "$compiler"; do
    command -v "$tool" >/dev/null || die "there is no $tool (Debian: qemu-system-arm, cpio, gcc-aarch64-linux-gnu)"
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
mkdir -p "$root/dev" "$root/proc"

kernel=${CARGO_TARGET_DIR:-target}/linux-arm64
[ -e "$kernel" ] || {
    foreign_packages "$scratch/apt" arm64 linux-image-arm64
    image=$(dpkg-deb --field "$scratch"/apt/debs/linux-image-arm64_*.deb Depends | cut -d ' ' -f 1)
    foreign_packages "$scratch/apt" arm64 "$image"
    dpkg-deb --fsys-tarfile "$scratch/apt/debs/${image}"_*.deb >"$scratch/image.tar"
    tar -xOf "$scratch/image.tar" "./boot/vmlinuz-${image#linux-image-}" >"$scratch/vmlinuz"
    mv "$scratch/vmlinuz" "$kernel"
}

for model in $models; do
    cp "models/$model/int8.onnx" "$root/$model.onnx"
    cp "models/$model/samples.npy" "$root/$model.npy"
done
for binary; do
    [ -e "dist/$binary" ] || die "there is no dist/$binary: make board-figures builds it"
    cp "dist/$binary" "$root/"
    board=
    case $binary in
        tractlet-plan-aarch64) board=pi-zero-2w ;;
        tractlet-plan-armv7) board=armv7 ;;
    esac
    for model in $models; do
        file=$model.onnx
        if [ -n "$board" ]; then
            file=$binary-$model.plan
            "$HOST_TRACTLET" compile "models/$model/int8.onnx" -o "$root/$file" --board $board >/dev/null
        fi
        echo "$binary/$model /$binary run /$file --input /$model.npy" >>"$root/jobs"
    done
done
"$compiler" -O2 -static -Wall -Werror -o "$root/init" targets/peak.c
(cd "$root" && find . | cpio --quiet -o -H newc) >"$scratch/initrd"
timeout 900 qemu-system-aarch64 -machine virt -cpu cortex-a53 -m 512 -nographic -no-reboot -net none \
    -kernel "$kernel" -initrd "$scratch/initrd" -append 'console=ttyAMA0 quiet panic=-1' \
    </dev/null >"$scratch/lines" 2>&1 || die "the machine did not end: $(tail -n 20 "$scratch/lines")"
tr -d '\r' <"$scratch/lines" >"$scratch/console"

kib() { # NAME
    sed -n "s|^peak $1 \([0-9]*\) 0\$|\1|p" "$scratch/console"
}
least=$(kib none)
[ -n "$least" ] || die "the machine measured nothing: $(tail -n 20 "$scratch/console")"
release=$(sed -n 's/^linux \([0-9]*\.[0-9]*\).*/\1/p' "$scratch/console")
echo
echo "| binary, run on Linux $release | bytes | peak, kws_dscnn | peak, har_cnn1d |"
echo '| --- | ---: | ---: | ---: |'
for binary; do
    printf '| %s | %s |' "$binary" "$(wc -c <"dist/$binary")"
    for model in $models; do
        peak=$(kib "$binary/$model")
        [ "${peak:-0}" -gt "$least" ] || die "$binary on $model: $(grep "^peak $binary/$model " "$scratch/console" || echo no line)"
        printf ' %s KiB |' "$peak"
    done
    echo
done
echo
