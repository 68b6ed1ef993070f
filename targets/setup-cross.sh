#!/bin/sh
# setup-cross.sh [sources|armv6]: what `make pi4`, `make test-arm` and their like need, on Debian 12 (amd64).
#
# Cross compilers and the emulator come through apt. Where the default Rust toolchain lacks the standard
# library of a board's platform, a private toolchain is made of Debian's packages as well, in one folder that
# neither dpkg nor rustup knows of: delete it, and it is gone. With `rustup target add` for both platforms
# done first, only the packages are installed. Does nothing where all is there, whichever way it came. With `sources` also the
# standard library's, of which `core` is built for bare metal; with `armv6` these, and Zig from PyPI, for `make pi-zero`.
#
# How: a toolchain is just files. Debian 12's security suite has a current compiler for amd64 alone; the
# next release has the standard libraries of the same version for arm64 and armhf. They are unpacked side by side.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

triples='aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf'
# Standard libraries by architecture, file and SHA-256, and the version that they are of. Where apt's compiler is of
# another, they are looked for in these suites, whose signatures apt checks.
version=1.96.0
pins='arm64 libstd-rust-web-dev_1.96.0+dfsg1-1~deb13u1+b1_arm64.deb 732ee16043f6917b1e4aaef020449752b68a78853a3b4bd3389a9523142729b9
armhf libstd-rust-web-dev_1.96.0+dfsg1-1~deb13u1+b1_armhf.deb cc965568e0d1120e36621269d798dd5747b750e91b00bfa20756b0a8328197e9'
suites='trixie forky sid'
# It links with a C library for any ARM processor.
zig=0.17.1

main() {
    case ${1:-} in
        '' | sources | armv6) ;;
        *) die "there is nothing to set up for $1; only sources and armv6, or without an argument what all others need" ;;
    esac
    tools
    lacking=
    for triple in $triples; do
        has_std "${RUSTC:-rustc}" "$triple" || lacking="$lacking $triple"
    done
    if [ -n "$lacking" ] && ! is_complete; then
        echo "the default toolchain has no standard library for$lacking: making a toolchain in $cross"
        toolchain
    fi
    [ -z "${1:-}" ] || "$1"
    summary
}

# Told by what they bring, since programs and libraries may have come another way than through apt.
tools() {
    wanted=
    program gcc gcc
    library_of gcc libc6-dev
    program readelf binutils
    program git git
    for triple in $triples; do
        program "$(gnu "$triple")-gcc" "gcc-$(gnu "$triple")"
        library_of "$(gnu "$triple")-gcc" "libc6-dev-$(debian "$triple")-cross"
        program "$(emulator "$triple")" qemu-user
    done
    # shellcheck disable=SC2046,SC2086 # lists of words
    packages $(printf '%s\n' $wanted | sort -u)
}

program() { # NAME PACKAGE
    command -v "$1" >/dev/null || wanted="$wanted $2"
}

# A C library that the compiler links in whole.
library_of() { # COMPILER PACKAGE
    case $("$1" -print-file-name=libc.a 2>/dev/null) in /*) ;; *) wanted="$wanted $2" ;; esac
}

# Whether an earlier run went through to its end, and the libraries are still there that the compiler was given.
is_complete() {
    [ -e "$cross/complete" ] && "$cross/usr/bin/rustc" --version >/dev/null 2>&1
}

# Whether what is there may be replaced.
is_ours() {
    [ ! -e "$cross" ] || [ -e "$cross/complete" ] || { [ -d "$cross" ] && [ -z "$(ls -A "$cross")" ]; }
}

summary() {
    for triple in $triples; do
        if has_std "${RUSTC:-rustc}" "$triple"; then
            echo "$triple: $("${RUSTC:-rustc}" --version), the default toolchain"
        else
            echo "$triple: $("$cross/usr/bin/rustc" --version), in $cross"
        fi
    done
    qemu-aarch64 --version | head -n 1
}

# Installs those that are missing.
packages() {
    missing=
    for package; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "what Debian 12 calls$missing is missing, and there is no apt-get to bring it.
  All that is needed: rustup target add $triples,
  gcc for both platforms with its C library, readelf, git, and qemu-user for the tests"
    echo "installing$missing"
    sudo=$([ "$(id -u)" -eq 0 ] || echo sudo)
    [ -z "$sudo" ] || command -v sudo >/dev/null ||
        die "as root, first: apt-get install --no-install-recommends$missing"
    # shellcheck disable=SC2086 # $sudo is nothing or a word, $missing a list of words
    logged $sudo env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends $missing ||
        { refresh && logged $sudo env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 \
            install --no-install-recommends $missing; } ||
        failed "apt-get could not install$missing"
}

# The stale index of a foreign architecture fails an update whose other parts went well; what really
# lacks comes to light afterwards.
refresh() {
    sudo=$([ "$(id -u)" -eq 0 ] || echo sudo)
    # shellcheck disable=SC2086 # $sudo is nothing or a word
    logged $sudo apt-get update || :
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

logged() {
    "$@" >"$scratch/log" 2>&1 </dev/null
}

failed() { # WHAT
    cat "$scratch/log" >&2
    die "$1; see above"
}

toolchain() {
    is_ours || die "$cross is there and is no toolchain that this script made, so nothing there is touched; let TRACTLET_CROSS
  name a folder that is empty or not there yet"
    command -v apt-get >/dev/null || die "Debian's packages make it, and there is no apt-get. The other way:
  rustup target add $triples"
    case $(candidate rustc-web) in 1.9[1-9].* | 1.[1-9][0-9][0-9].*) ;; *) refresh ;; esac
    upstream=$(candidate rustc-web)
    upstream=${upstream%%+*}
    series=${upstream%.*}
    llvm=$(depends "libstd-rust-web-$series" | grep -m 1 '^libllvm') ||
        die "apt has no current rustc-web, which is in Debian 12's security suite. The other way:
  rustup target add $triples"
    # What the unpacked programs are linked to, and the tool that tells them where they were put.
    # shellcheck disable=SC2046 # a list of words
    packages patchelf libcurl4 $(depends "$llvm")

    mkdir "$scratch/debs"
    compiler || { refresh && compiler; } || failed "apt-get could not download the compiler"
    mirror=$(uri Codename)
    mirror=${mirror:-$(uri Suite)}
    [ -n "$mirror" ] || die "apt's configuration does not tell Debian's mirror"
    printf '%s\n' "$pins" >"$scratch/pins"
    while read -r architecture file digest; do
        pinned "$file" "$digest" || searched "$architecture" ||
            failed "there is no $architecture standard library for Rust $upstream in $suites. The other way:
  rustup target add $triples"
    done <"$scratch/pins"
    unpack
}

candidate() { # PACKAGE
    LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p'
}

depends() { # PACKAGE
    LC_ALL=C apt-cache depends --important "$1" 2>/dev/null | sed -n 's/^ *Depends: \([a-z0-9.+-]*\)$/\1/p'
}

# Through the machine's own apt, which checks signatures.
compiler() {
    (cd "$scratch/debs" && logged apt-get -o APT::Sandbox::User=root download rustc-web \
        "libstd-rust-web-$series" libstd-rust-web-dev "$llvm")
}

uri() { # Codename|Suite
    # shellcheck disable=SC2016 # $(REPO_URI) is apt's
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "$1: bookworm" | head -n 1 | sed 's|/$||'
}

pinned() { # FILE SHA256
    [ "$upstream" = "$version" ] &&
        logged /usr/lib/apt/apt-helper download-file "$mirror/pool/main/r/rustc-web/$1" "$scratch/debs/$1" "SHA256:$2"
}

# The first suite that has the version, seen by an apt of its own: no index of it enters the machine's.
searched() { # ARCHITECTURE
    for suite in $suites; do
        apt=$scratch/apt-$suite-$1
        mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
        : >"$apt/status"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
        set -- "$1" -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=$apt/sources.list" \
            -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$apt/lists" \
            -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o "APT::Architecture=$1" \
            -o "APT::Architectures=$1" -o Acquire::Languages=none
        architecture=$1
        shift
        if logged apt-get "$@" update; then
            for package in libstd-rust-web-dev libstd-rust-dev; do
                found=$(apt-cache "$@" madison "$package" | sed -n "s/.*| *\(${upstream}[+-][^ ]*\) *|.*/\1/p" | head -n 1)
                [ -z "$found" ] ||
                    ! (cd "$scratch/debs" && logged apt-get "$@" download "$package=$found") || return 0
            done
        fi
        set -- "$architecture"
    done
    return 1
}

# Beside its place first, and moved there when a program of each platform was compiled and ran.
unpack() {
    mkdir -p "$(dirname "$cross")"
    new=$cross.new.$$
    trap 'rm -rf "$scratch" "$new"' EXIT
    for deb in "$scratch"/debs/*.deb; do
        dpkg -x "$deb" "$new"
    done
    rm -rf "${new:?}/usr/share"
    # shellcheck disable=SC2016 # $ORIGIN is the loader's
    patchelf --force-rpath --set-rpath '$ORIGIN/../lib/x86_64-linux-gnu' "$new/usr/bin/rustc" "$new/usr/bin/rustdoc"
    echo 'fn main() {}' >"$scratch/try.rs"
    for triple in $triples; do
        logged "$new/usr/bin/rustc" --target "$triple" "-Clinker=$(gnu "$triple")-gcc" -Ctarget-feature=+crt-static \
            -o "$scratch/try" "$scratch/try.rs" || failed "the new toolchain does not compile for $triple"
        logged "$(emulator "$triple")" "$scratch/try" || failed "a program for $triple does not run under QEMU"
    done
    : >"$new/complete"
    rm -rf "$cross"
    mv "$new" "$cross"
}

# None where rustup has a core library for bare metal.
sources() {
    ! ls "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$bare_metal/lib/"libcore-*.rlib >/dev/null 2>&1 || return 0
    library
}

library() {
    is_complete || toolchain
    [ ! -e "$cross/usr/lib/rustlib/src/rust/library/std" ] || return 0
    here=$("$cross/usr/bin/rustc" --version | cut -d ' ' -f 2)
    case $(candidate rust-web-src) in "$here"[+-]*) ;; *) refresh ;; esac
    case $(candidate rust-web-src) in
        "$here"[+-]*) ;;
        *) die "apt has rust-web-src $(candidate rust-web-src), and the compiler in $cross is $here: delete it and begin anew" ;;
    esac
    mkdir "$scratch/sources"
    (cd "$scratch/sources" && logged apt-get -o APT::Sandbox::User=root download rust-web-src) ||
        failed 'apt-get could not download rust-web-src'
    dpkg -x "$scratch"/sources/*.deb "$cross"
    rm -rf "${cross:?}/usr/share"
}

armv6() {
    library
    if [ "$("$cross/zig/bin/python" -m ziglang version 2>/dev/null)" != $zig ]; then
        packages python3-venv
        rm -rf "${cross:?}/zig"
        logged python3 -m venv "$cross/zig" || failed 'python3 could not make a virtual environment'
        logged "$cross/zig/bin/pip" install "ziglang==$zig" || failed "pip could not install ziglang $zig"
    fi
    printf '#!/bin/sh\nexec "%s/zig/bin/python" -m ziglang cc -target arm-linux-musleabihf -mcpu=arm1176jzf_s "$@"\n' "$cross" \
        >"$cross/zig-arm1176"
    chmod +x "$cross/zig-arm1176"
    echo "arm-unknown-linux-musleabihf: built from sources, linked by Zig $zig"
}

main "$@"
