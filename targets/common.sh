# shellcheck shell=sh
# What the scripts here share; to be sourced, from the repository root.

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# What is switched on by 1 is off by 0.
case ${SLIM:-} in 0 | no) SLIM= ;; esac

# Board files are TOML of one level: `key = "text"` or `key = number`.
field() { # BOARD KEY
    [ -e "targets/$1.toml" ] || die "there is no board $1: targets/ has $(cd targets && echo *.toml | sed 's/\.toml//g')"
    sed -n "s/^$2 = \"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "targets/$1.toml" | grep . || die "targets/$1.toml has no $2"
}

# The tool prefix of Debian's cross compilers, which names the C library's folder below /usr too.
gnu() { # TRIPLE
    case $1 in
        aarch64-unknown-linux-gnu) echo aarch64-linux-gnu ;;
        # Of ARMv6 only the tools that know no processor are used: Debian's C library is ARMv7.
        armv7-unknown-linux-gnueabihf | arm-unknown-linux-musleabihf) echo arm-linux-gnueabihf ;;
        *) die "there is no build for $1 yet; the board's file in targets/ says why" ;;
    esac
}

# What the file names in dist/ end in.
arch() { # TRIPLE
    case $1 in
        aarch64-*) echo aarch64 ;;
        armv7-*) echo armv7 ;;
        arm-*) echo armv6 ;;
        *) die "there is no build for $1 yet; the board's file in targets/ says why" ;;
    esac
}

# The private toolchain that setup-cross.sh makes.
cross=${TRACTLET_CROSS:-${XDG_DATA_HOME:-$HOME/.local/share}/tractlet-cross}
case $cross in
    /*[!/]*) cross=${cross%"${cross##*[!/]}"} ;;
    *) die "TRACTLET_CROSS=$cross: expected the whole path of a folder" ;;
esac

has_std() { # RUSTC TRIPLE
    sysroot=$("$1" --print sysroot) && ls "$sysroot/lib/rustlib/$2/lib/"libstd-*.rlib >/dev/null 2>&1
}

# Exports what cargo needs to build for a triple: the default toolchain where it has the standard
# library, else the private one.
use_toolchain() { # TRIPLE
    prefix=$(gnu "$1")
    if [ "$1" = arm-unknown-linux-musleabihf ]; then
        use_zig
        return
    fi
    if ! command -v "$prefix-gcc" >/dev/null; then
        die "there is no $prefix-gcc, which links and assembles; either install it (Debian:
  apt-get install --no-install-recommends gcc-$prefix libc6-dev-$(debian "$1")-cross), or let all be set up:
  targets/setup-cross.sh"
    fi
    if has_std "${RUSTC:-rustc}" "$1"; then
        :
    elif [ -x "$cross/usr/bin/rustc" ] && has_std "$cross/usr/bin/rustc" "$1"; then
        export RUSTC="$cross/usr/bin/rustc" RUSTDOC="$cross/usr/bin/rustdoc"
    else
        die "there is no Rust standard library for $1; either of these brings it:
  rustup target add $1
  targets/setup-cross.sh        (Debian packages, unpacked below $cross)"
    fi
    variable=$(echo "$1" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${variable}_LINKER=$prefix-gcc"
}

# For ARMv6 the standard library is built from its sources, and linked with musl by Zig, which has a C library for
# every ARM processor.
use_zig() {
    [ -x "$cross/usr/bin/rustc" ] && [ -e "$cross/usr/lib/rustlib/src/rust/library/std" ] && [ -x "$cross/zig-arm1176" ] ||
        die "there is no toolchain for ARMv6; this makes one of Debian packages and of Zig from PyPI, below $cross:
  targets/setup-cross.sh armv6"
    export RUSTC="$cross/usr/bin/rustc" RUSTDOC="$cross/usr/bin/rustdoc" RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_ARM_UNKNOWN_LINUX_MUSLEABIHF_LINKER="$cross/zig-arm1176"
}

debian() { # TRIPLE
    case $1 in
        aarch64-*) echo arm64 ;;
        *) echo armhf ;;
    esac
}

# The flags of every build here: all linked in, and no path of this machine in the result. Separated
# as CARGO_ENCODED_RUSTFLAGS wants it, since paths may have spaces.
rustflags() {
    printf '%s' '-Ctarget-feature=+crt-static'
    printf '\037--remap-path-prefix=%s=/tractlet' "$PWD"
    [ -z "${CARGO_TARGET_DIR:-}" ] || printf '\037--remap-path-prefix=%s=/target' "$CARGO_TARGET_DIR"
    for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
        printf '\037--remap-path-prefix=%s=/registry' "${sources%/}"
    done
}

emulator() { # TRIPLE
    case $1 in
        aarch64-*) echo qemu-aarch64 ;;
        *) echo qemu-arm ;;
    esac
}

# The plugin by which QEMU counts instructions, built into a folder.
counter() { # FOLDER
    counter=$1/libicount.so
    "${CC:-cc}" -O2 -shared -fPIC -o "$counter" targets/icount.c
}

# Instructions of a whole process that runs the model so often. EMULATOR has its arguments with it.
counted() { # EMULATOR BINARY ENGINE MODEL RUNS
    # shellcheck disable=SC2086 # a list of words
    $1 -plugin "$counter" "$2" bench "$4" --engine "$3" --warmup 1 --runs "$5" 2>"$counter.log" >/dev/null ||
        { cat "$counter.log" >&2; die "$2 failed on $4 under $1"; }
    sed -n 's/^insns //p' "$counter.log" | tail -n 1
}

# Thousands of instructions of one inference: a twentieth of what twenty more runs take.
inference() { # EMULATOR BINARY ENGINE MODEL
    few=$(counted "$@" 5)
    many=$(counted "$@" 25)
    echo $(((many - few + 10000) / 20000))
}

# Packages of Debian 12 for another architecture, as FOLDER/debs/*.deb: by an apt with lists of its own, which checks
# signatures as the machine's does and changes nothing of that.
foreign_packages() { # FOLDER ARCHITECTURE PACKAGE...
    folder=$1
    architecture=$2
    shift 2
    packages=$*
    mkdir -p "$folder/debs" "$folder/lists/partial" "$folder/cache/archives/partial"
    : >"$folder/status"
    # shellcheck disable=SC2016 # $(REPO_URI) is apt's
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror%/} bookworm main" >"$folder/sources.list"
    set -- -q -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$folder/lists" -o "Dir::State::status=$folder/status" \
        -o "Dir::Cache=$folder/cache" -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" \
        -o Acquire::Languages=none
    apt-get "$@" update >&2
    # shellcheck disable=SC2086 # a list of words
    (cd "$folder/debs" && apt-get "$@" download $packages >&2)
}

bare_metal=thumbv7em-none-eabihf
# A Cortex-M3.
no_fpu=thumbv7m-none-eabi

# Core is there for it (rustup target add), or is built from its sources: sets what cargo needs for that in $build_core.
use_core() {
    build_core=
    if ls "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$bare_metal/lib/"libcore-*.rlib >/dev/null 2>&1; then
        :
    elif [ -e "$cross/usr/lib/rustlib/src/rust/library/core" ]; then
        export RUSTC="$cross/usr/bin/rustc" RUSTC_BOOTSTRAP=1
        build_core=-Zbuild-std=core
    else
        die "there is no core library for $bare_metal; either of these brings it:
  rustup target add $bare_metal
  targets/setup-cross.sh sources"
    fi
}
