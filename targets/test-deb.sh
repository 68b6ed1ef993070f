#!/bin/sh
# test-deb.sh BOARD|host: the package, built twice alike, looked at, installed below a scratch root, and run from there, a board's
# under QEMU; and its unit as systemd sees it, where there is systemd-analyze. BINARY and SLIM as for deb.sh.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 1 ] || { echo 'usage: test-deb.sh BOARD|host' >&2; exit 2; }
scratch=$(mktemp -d)
# What `make deb` made stays as it is.
OUT=$scratch/made
export OUT
trap 'rm -rf "$scratch"' EXIT
if [ "$1" = host ]; then
    architecture=$(dpkg --print-architecture)
    depends='Depends: libc6 (>= 2.'
    emulator=
else
    triple=$(field "$1" triple)
    architecture=$(debian "$triple")
    # A static binary needs no other package.
    depends=
    emulator="$(emulator "$triple") -cpu $(field "$1" qemu_cpu)"
fi

echo '-- two builds are one'
built=$(targets/deb.sh "$1")
echo "$built"
package=${built%% *}
cp "$package" "$scratch/first.deb"
sleep 1
touch CHANGELOG.md targets/systemd/example.conf
# Elsewhere, and on another file system where there is one.
elsewhere=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$scratch" "$elsewhere"' EXIT
TMPDIR=$elsewhere targets/deb.sh "$1" >/dev/null
cmp "$package" "$scratch/first.deb" || die 'the same sources gave another package'

echo '-- a program for another machine is refused'
case $architecture in arm64) other=armv7 ;; *) other=pi4 ;; esac
dpkg-deb --fsys-tarfile "$package" | tar -xO ./usr/bin/tractlet >"$scratch/program"
BINARY=$scratch/program targets/deb.sh $other >"$scratch/out" 2>&1 &&
    die 'it went into a package for another machine'
grep -q 'and a package for .* holds' "$scratch/out" || die "$(cat "$scratch/out")"

echo '-- what dpkg says of it'
dpkg-deb --info "$package" >"$scratch/info"
for line in 'Package: tractlet' "Architecture: $architecture" "$depends" 'Maintainer: '; do
    grep -qF "$line" "$scratch/info" || die "no '$line' in: $(cat "$scratch/info")"
done
[ -n "$depends" ] || ! grep 'Depends:' "$scratch/info" || die 'a static binary depends on something: see above'
dpkg-deb --contents "$package" >"$scratch/contents"
! grep -v ' root/root ' "$scratch/contents" || die 'a file is not root'"'"'s: see above'

echo '-- installed, it runs'
mkdir -p "$scratch/root/var/lib/dpkg/info" "$scratch/root/var/lib/dpkg/updates"
: >"$scratch/root/var/lib/dpkg/status"
: >"$scratch/root/var/lib/dpkg/available"
dpkg --root="$scratch/root" --log="$scratch/log" --force-depends --force-architecture --force-not-root \
    --force-script-chrootless --install "$package" >"$scratch/out" 2>&1 || die "dpkg refused it: $(cat "$scratch/out")"
root=$scratch/root
(cd "$root" && md5sum --quiet -c var/lib/dpkg/info/tractlet.md5sums)
models=$root/usr/share/tractlet/models
# shellcheck disable=SC2086 # the emulator and its arguments
$emulator "$root/usr/bin/tractlet" run "$models/kws_dscnn/int8.onnx" --input "$models/kws_dscnn/samples.npy" \
    --labels "$models/kws_dscnn/labels.txt" --top 1 | awk '{ print $2 }' | cmp - models/kws_dscnn/expected.txt
# shellcheck disable=SC2086
$emulator "$root/usr/bin/tractlet" stream "$models/kws_dscnn" --source "$models/kws_dscnn/words.wav" --sink json:"$scratch/words" >/dev/null
grep -q '"summary"' "$scratch/words"
gzip -dc "$root/usr/share/man/man1/tractlet-run.1.gz" | grep -q 'max.*rss'
[ -e "$root/usr/share/bash-completion/completions/tractlet" ]
grep -qx /etc/logrotate.d/tractlet "$root/var/lib/dpkg/info/tractlet.conffiles"

echo '-- the unit'
targets/check-unit.sh "$root"

echo '-- removed, nothing is left'
dpkg --root="$root" --log="$scratch/log" --force-not-root --force-script-chrootless --purge tractlet >/dev/null 2>&1
[ -z "$(find "$root/etc" "$root/usr" -type f 2>/dev/null)" ] ||
    die "files are left: $(find "$root/etc" "$root/usr" -type f 2>/dev/null)"
echo ok
