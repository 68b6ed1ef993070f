#!/bin/sh
# test-scripts.sh: what the Makefile and the scripts here leave alone and refuse. It takes seconds and builds nothing: a board is
# a folder of this machine, ssh a shell in it, and tractlet a script.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset CARGO_TARGET_DIR BINARY DIR SERVICE BOARD SLIM
board=$scratch/board
mkdir -p "$scratch/bin" "$board"

program() { # PATH, its text from standard input
    { echo '#!/bin/sh'; cat; } >"$1"
    chmod +x "$1"
}

refuses() { # PART COMMAND...
    part=$1
    shift
    "$@" >"$scratch/out" 2>&1 && die "it did not refuse: $*"
    grep -qF -e "$part" "$scratch/out" || die "$*: no '$part' in: $(cat "$scratch/out")"
}

program "$scratch/tractlet" <<'END'
[ "$1" != --version ] || { echo 'tractlet 0.0.0'; exit; }
[ -e works ] || exit 1
echo '{"median_us": 1.0, "heap_peak_bytes": 1024, "load_peak_bytes": 1024, "run_peak_bytes": 1024}' | tr ',' '\n' | sed 's/[{}]//'
END
# Its user is not root there.
program "$scratch/bin/id" <<'END'
echo 1000
END
program "$scratch/bin/sudo" <<END
[ "\$1" = -n ] || { echo 'sudo: a terminal is required to read the password' >&2; exit 1; }
[ ! -e "$scratch/asks" ] || { echo 'sudo: a password is required' >&2; exit 1; }
shift
exec "\$@"
END
program "$scratch/ssh" <<END
shift
cd "$board"
PATH=$scratch/bin:\$PATH exec sh -c "\$*"
END
export SSH="$scratch/ssh"

on_board() { # WORD=VALUE... ACTION
    env BINARY="$scratch/tractlet" CARGO_TARGET_DIR="$scratch/target" "$@"
}

echo '-- a deployment leaves the owner'"'"'s own models'
on_board targets/board.sh deploy pi >/dev/null
mkdir "$board/tractlet/models/mine"
echo old >"$board/tractlet/models/kws_dscnn/gone"
on_board targets/board.sh deploy pi >/dev/null
[ -d "$board/tractlet/models/mine" ] || die 'a model of the owner went'
[ ! -e "$board/tractlet/models/kws_dscnn/gone" ] || die 'what was shipped before is still there'
[ ! -e "$board/tractlet.new" ] || die 'the folder of the transfer is still there'
for folder in . .. / // a/..; do
    refuses 'expected a folder of its own' on_board DIR=$folder targets/board.sh deploy pi
done
refuses 'only letters' on_board 'DIR=a b' targets/board.sh deploy pi
# shellcheck disable=SC2016 # as it is
refuses 'only letters' on_board 'TRACTLET_TEST_ROOT=/tmp/$x' targets/board.sh deploy pi

echo '-- a service: without a password, with the bound that is its own'
touch "$scratch/asks"
before=$(ls -l "$board/tractlet/tractlet")
refuses NOPASSWD on_board SERVICE=walk targets/board.sh deploy pi
[ "$before" = "$(ls -l "$board/tractlet/tractlet")" ] || die 'it was deployed before it was refused'
rm "$scratch/asks"
system=$scratch/system
on_service() { # WORD=VALUE...
    on_board SERVICE=walk TRACTLET_TEST_ROOT="$system" "$@" targets/board.sh deploy pi 2>"$scratch/err" >/dev/null ||
        die "$(cat "$scratch/err")"
}
on_service BOARD=pi4
[ -e "$system/etc/systemd/system/tractlet@.service.d/board.conf" ] || die 'BOARD wrote no drop-in'
[ ! -e "$system/usr/local/share/tractlet/models/mine" ] || die 'it installed a model of the owner'
[ ! -s "$scratch/err" ] || die "$(cat "$scratch/err")"
pattern=$(sed -n 's|^# \(/.*/example.conf\) .*|\1|p' "$system/etc/systemd/system/tractlet@.service")
[ -f "$system$pattern" ] || die "the unit names $pattern, which is not there"
grep -q copytruncate "$system/etc/logrotate.d/tractlet" || die 'nothing keeps decisions from filling the card'
echo '# mine' >"$system/etc/logrotate.d/tractlet"
on_service
grep -qx '# mine' "$system/etc/logrotate.d/tractlet" || die 'it wrote over what the owner changed'
[ ! -e "$system/etc/systemd/system/tractlet@.service.d/board.conf" ] || die 'the budget of a board outlasted it'
grep -q 'has --max-rss 56MiB, above the unit.s MemoryMax of 33554432' "$scratch/err" || die "no warning: $(cat "$scratch/err")"
for word in pi-zero-2w 32MiB 33554432 '=20MB' none; do
    echo "STREAM=m --max-rss $word --sandbox" | sed 's/ =/=/' >"$system/etc/tractlet/walk.conf"
    on_service
    [ ! -s "$scratch/err" ] || die "$word: $(cat "$scratch/err")"
done

echo '-- reports of a board stay until there are new ones'
touch "$board/tractlet/works"
on_board targets/board.sh footprint pi >/dev/null
reports=$scratch/target/boards/pi
[ -e "$reports/kws_dscnn-int8-bench.json" ] || die "no reports: $(find "$scratch/target")"
rm "$board/tractlet/works"
refuses 'it failed on pi' on_board targets/board.sh footprint pi
[ -e "$reports/kws_dscnn-int8-bench.json" ] || die 'the last reports went'

echo '-- a toolchain takes no folder that has something else'
# A compiler without libraries of other platforms, and apt that has nothing.
mkdir "$scratch/none" "$scratch/opt" "$scratch/tools"
program "$scratch/tools/rustc" <<END
echo "$scratch/none"
END
for tool in gcc readelf git aarch64-linux-gnu-gcc arm-linux-gnueabihf-gcc qemu-aarch64 qemu-arm; do
    echo 'echo /usr/lib/libc.a' | program "$scratch/tools/$tool"
done
echo 'exit 1' | program "$scratch/tools/apt-get"
echo kept >"$scratch/opt/file"
set_up() { # WORD=VALUE... ARGUMENT...
    env PATH="$scratch/tools:$PATH" RUSTC="$scratch/tools/rustc" "$@"
}
for folder in "$scratch/opt" "$scratch/opt//"; do
    refuses "$scratch/opt is there and is no toolchain" set_up TRACTLET_CROSS="$folder" targets/setup-cross.sh
done
refuses 'expected the whole path' set_up TRACTLET_CROSS=opt targets/setup-cross.sh
refuses 'nothing to set up for everything' set_up targets/setup-cross.sh everything
[ "$(cat "$scratch/opt/file")" = kept ] || die 'it went all the same'
# All there, and no apt: coreutils alone beside the tools.
rm "$scratch/tools/apt-get"
for tool in sh dirname basename ls cat grep sed sort mktemp rm head env tr; do
    ln -s "$(command -v $tool)" "$scratch/tools/$tool"
done
for triple in aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf; do
    mkdir -p "$scratch/none/lib/rustlib/$triple/lib"
    touch "$scratch/none/lib/rustlib/$triple/lib/libstd-0.rlib"
done
env PATH="$scratch/tools" RUSTC="$scratch/tools/rustc" targets/setup-cross.sh >"$scratch/out" 2>&1 || die "$(cat "$scratch/out")"
rm "$scratch/tools/qemu-arm"
refuses 'calls qemu-user is missing' env PATH="$scratch/tools" RUSTC="$scratch/tools/rustc" targets/setup-cross.sh

echo '-- every board is one that make builds for'
for file in targets/*.toml; do
    name=$(basename "$file" .toml)
    make boards | tr ' ' '\n' | grep -qx "$name" || die "BOARDS in the Makefile lacks $name"
    make -n "$name" | grep -q "targets/build.sh $name" || die "make $name builds something else"
done

echo '-- what is switched off is off'
for off in '' 0 no; do
    make -n pi4 SLIM="$off" | grep -q slim && die "SLIM=$off makes the slim one"
    # shellcheck disable=SC2016 # for the shell within
    [ -z "$(SLIM=$off sh -c '. targets/common.sh; echo "$SLIM"')" ] || die "SLIM=$off is slim to the scripts"
    make -n cross ARMV6="$off" | grep -q armv6 && die "ARMV6=$off sets the Pi Zero up"
    make -n test-reproducible RUNNER="$off" | grep -q runner && die "RUNNER=$off compares the runner"
done
make -n test-reproducible RUNNER=1 | grep -q runner || die 'RUNNER=1 does not compare the runner'

echo '-- installed as a whole, and removed as a whole'
mkdir -p "$scratch/build/manual"
for file in tractlet.1 tractlet-run.1 tractlet.bash _tractlet tractlet.fish; do
    echo manual >"$scratch/build/manual/$file"
done
installing() { # ARGUMENT...
    CARGO_TARGET_DIR="$scratch/build" make --no-print-directory BINARY="$scratch/tractlet" "$@"
}
for prefix in /usr/local /opt/edge; do
    installing install DESTDIR="$scratch/stage" PREFIX=$prefix >"$scratch/out" || die "$(cat "$scratch/out")"
    grep -qF "$scratch/tractlet of 2" "$scratch/out" || die "it does not say what it installed: $(cat "$scratch/out")"
    stage=$scratch/stage$prefix
    pattern=$(sed -n 's|^# \(/.*/example.conf\) .*|\1|p' "$stage/lib/systemd/system/tractlet@.service")
    [ -f "$scratch/stage$pattern" ] || die "the unit names $pattern, which is not there"
    grep -qx "ExecStart=$prefix/bin/tractlet stream .*" "$stage/lib/systemd/system/tractlet@.service" || die 'another program'
    ! grep -n /usr/share "$scratch/stage$pattern" || die 'the pattern names what is elsewhere: see above'
    installing uninstall DESTDIR="$scratch/stage" PREFIX=$prefix >/dev/null
    [ -z "$(find "$scratch/stage" -type f)" ] || die "files are left: $(find "$scratch/stage" -type f)"
done
mkdir -p "$scratch/a b/usr/local/bin"
# shellcheck disable=SC2088 # as it is
for folder in "$scratch/a b" "$scratch/a " "$scratch/a;b" "$scratch/\$\$(id)" "$scratch/a|b" "$scratch/a'b" '~/a'; do
    for goal in install uninstall; do
        refuses 'a character with a meaning to the shell or make' installing $goal DESTDIR="$folder"
        refuses 'a character with a meaning to the shell or make' installing $goal DESTDIR="$scratch/stage" PREFIX="$folder"
    done
    refuses 'a character with a meaning to the shell or make' env CARGO_TARGET_DIR="$folder" make -n manual
done
refuses 'a character with a meaning to the shell or make' make -n parity PACK="$scratch/a b"
# A checkout in such a folder is one that recipes can work in.
cp Makefile "$scratch/a b"
make -C "$scratch/a b" -n test-ort parity-ort differential PACK=pack >"$scratch/out"
sed "s/'[^']*'//g" "$scratch/out" | grep -v '^make' | grep 'a b' && die 'a path is not quoted: see above'
refuses 'expected one from / on' installing install DESTDIR="$scratch/stage" PREFIX=usr
echo ok
