#!/bin/sh
# make.sh MODEL.onnx: a package that minisign itself signed, with a key that is thrown away, and the same altered afterwards.
set -eu
[ $# -eq 1 ] || { echo 'usage: make.sh MODEL.onnx' >&2; exit 2; }
model=$(realpath "$1")
cd "$(dirname "$0")"
rm -rf signed altered minisign.pub
mkdir signed
cp "$model" signed/small.onnx
digest=$(sha256sum signed/small.onnx | cut -d ' ' -f 1)
cat >signed/manifest.toml <<END
format = 1
name = "small"
version = 1
model = "small.onnx"

[files]
"small.onnx" = "$digest"
END
secret=$(mktemp)
trap 'rm -f "$secret"' EXIT
minisign -G -f -W -p minisign.pub -s "$secret"
minisign -S -s "$secret" -m signed/manifest.toml
cp -R signed altered
# Another name for the producer, say: still a model.
printf '\n' >>altered/small.onnx
