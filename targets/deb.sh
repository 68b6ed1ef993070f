#!/bin/sh
# deb.sh BOARD|host: a Debian package of the program, dist/tractlet_<version>_<architecture>.deb: binary, int8 models, unit,
# manual pages and completions. It depends on nothing, since the binary is static; the one for this machine is built without
# a target and depends on the C library.
#
#   OUT         the folder of the package; default dist
#   BINARY      the program; default dist/tractlet-<arch>, by the board, with SLIM=1 the slim one; for host target/release/tractlet
#   MANUAL      the folder that `make manual` fills; default target/manual
#   MAINTAINER  who answers for the package; default the project
#
# With the same program and commit it gives the same bytes.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

# What a program is for, by its header.
machine() { # PROGRAM
    LC_ALL=C readelf --file-header "$1" 2>/dev/null | sed -n -e 's/^ *Class: *//p' -e 's/^ *Machine: *//p' | paste -s -d ' '
}

[ $# -eq 1 ] || { echo 'usage: deb.sh BOARD|host' >&2; exit 2; }
command -v dpkg-deb >/dev/null || die 'there is no dpkg-deb (Debian: dpkg)'
target=${CARGO_TARGET_DIR:-target}
if [ "$1" = host ]; then
    architecture=$(dpkg --print-architecture)
    machine=$(machine /bin/sh)
    binary=${BINARY:-$target/release/tractlet}
    build='make build'
else
    triple=$(field "$1" triple)
    architecture=$(debian "$triple")
    case $architecture in
        arm64) machine='ELF64 AArch64' ;;
        armhf) machine='ELF32 ARM' ;;
    esac
    binary=${BINARY:-dist/tractlet-$(arch "$triple")${SLIM:+-slim}}
    build="make $1${SLIM:+ SLIM=1}"
fi
manual=${MANUAL:-$target/manual}
[ -e "$binary" ] || die "there is no $binary: first $build"
[ "$(machine "$binary")" = "$machine" ] ||
    die "$binary is for $(machine "$binary" | grep . || echo 'no machine'), and a package for $architecture holds $machine"
[ -e "$manual/tractlet.1" ] || die "there are no manual pages in $manual: first make manual"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

# The C library that the program was linked against at least, by the versions of its symbols.
libc_of() { # BINARY
    readelf --wide --version-info "$1" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
umask 022
root=$scratch/root
put() { # MODE FILE PLACE
    install -D -m "$1" "$2" "$root/$3"
}

# Boards' binaries are stripped already; this machine's has line tables.
if [ "$1" = host ]; then
    strip -o "$scratch/tractlet" "$binary"
    binary=$scratch/tractlet
fi
put 755 "$binary" usr/bin/tractlet
put 644 targets/systemd/tractlet@.service usr/lib/systemd/system/tractlet@.service
put 644 targets/systemd/example.conf usr/share/doc/tractlet/examples/example.conf
put 644 targets/systemd/tractlet.logrotate etc/logrotate.d/tractlet
for page in "$manual"/*.1; do
    put 644 "$page" "usr/share/man/man1/$(basename "$page")"
done
put 644 "$manual/tractlet.bash" usr/share/bash-completion/completions/tractlet
put 644 "$manual/_tractlet" usr/share/zsh/vendor-completions/_tractlet
put 644 "$manual/tractlet.fish" usr/share/fish/vendor_completions.d/tractlet.fish
# What runs, with samples to try it on; float forms and golden outputs are for who develops.
for model in models/*/int8.onnx; do
    folder=$(dirname "$model")
    for file in "$folder"/int8.onnx "$folder"/model.toml "$folder"/labels.txt "$folder"/samples.npy "$folder"/*.wav \
        "$folder"/README.md; do
        [ ! -e "$file" ] || put 644 "$file" "usr/share/tractlet/$file"
    done
done
put 644 CHANGELOG.md usr/share/doc/tractlet/changelog
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: tractlet\n\n'
    printf 'Files: *\nCopyright: 2026 The tractlet authors\nLicense: MIT or Apache-2.0\n\n'
    printf 'License: MIT\n'
    sed -e 's/^$/./' -e 's/^/ /' LICENSE-MIT
    printf '\nLicense: Apache-2.0\n See /usr/share/common-licenses/Apache-2.0\n\n'
    printf 'Files: usr/share/tractlet/models/*\nCopyright: see below\nLicense: several\n'
    sed -e 's/^$/./' -e 's/^/ /' models/LICENSES.md
} >"$scratch/copyright"
put 644 "$scratch/copyright" usr/share/doc/tractlet/copyright
gzip -9n "$root"/usr/share/man/man1/*.1 "$root"/usr/share/doc/tractlet/changelog

mkdir "$root/DEBIAN"
depends=
[ "$1" != host ] || depends="Depends: libc6 (>= $(libc_of "$binary")), libgcc-s1"
{
    printf 'Package: tractlet\nVersion: %s\nArchitecture: %s\n' "$version" "$architecture"
    printf 'Maintainer: %s\n' "${MAINTAINER:-The tractlet authors <tractlet@localhost>}"
    # In KiB, a file rounded up and all else 1, as Debian's policy says: folders have another size on another file system.
    printf 'Installed-Size: %s\n' "$(find "$root/etc" "$root/usr" -printf '%y %s\n' |
        awk '{ kib += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print kib }')"
    [ -z "$depends" ] || printf '%s\n' "$depends"
    printf 'Section: science\nPriority: optional\n'
    printf 'Description: runs quantized ONNX models on small boards within a memory bound\n'
    printf ' One program and a model file: inference, measurements of latency and memory, and\n'
    printf ' streams from a sensor to decisions, as a service of systemd.\n'
} >"$root/DEBIAN/control"
# Instances are the administrator's to start; what goes does not go on.
cat >"$root/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
END
cat >"$root/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    systemctl stop 'tractlet@*.service'
fi
END
cp "$root/DEBIAN/postinst" "$root/DEBIAN/postrm"
echo /etc/logrotate.d/tractlet >"$root/DEBIAN/conffiles"
chmod 755 "$root"/DEBIAN/p*
(cd "$root" && find etc usr -type f | LC_ALL=C sort | xargs -d '\n' md5sum) >"$root/DEBIAN/md5sums"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

out=${OUT:-dist}
mkdir -p "$out"
package=$out/tractlet_${version}_$architecture.deb
# One thread: the bytes of xz depend on how many there are.
dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$package" >/dev/null
printf '%s  %s bytes  sha256 %s\n' "$package" "$(wc -c <"$package")" "$(sha256sum "$package" | cut -d ' ' -f 1)"
