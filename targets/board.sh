#!/bin/sh
# board.sh deploy|test|footprint HOST: what `make deploy`, `make test-on` and `make footprint-on` do.
#
# HOST is what ssh takes. The board needs an sshd, a shell and tar; the binary brings all else along.
#   SSH     the ssh to use, with options; default ssh
#   DIR     where to put things on the board; default tractlet, in the home folder
#   BINARY  what to deploy; default dist/tractlet-<arch>, by what the board says that it is, with SLIM=1 the slim one
#   SERVICE what to call a stream that systemd starts: deploy then also puts program, models and unit into the system, which
#           takes root there, and BOARD, such as pi4, says how much memory the service may have
#   HOST_TRACTLET  the binary of this machine that answers are compared with; default: built
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

usage() {
    echo 'usage: board.sh deploy|test|footprint HOST, such as pi@raspberrypi.local (make deploy HOST=...)' >&2
    exit 2
}

[ $# -eq 2 ] || usage
[ -n "$2" ] || usage
action=$1
host=$2
dir=${DIR:-tractlet}
case $dir in
    *[!A-Za-z0-9/._-]* | -*) die "DIR=$dir: only letters, digits and / . _ -, since a shell on the board reads it" ;;
esac
results=${CARGO_TARGET_DIR:-target}/boards/$(printf '%s' "$host" | tr -c 'A-Za-z0-9.@-' '_')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Runs a command line on the board.
remote() {
    # shellcheck disable=SC2086 # ssh with its options
    ${SSH:-ssh} "$host" "$@"
}

binary() {
    machine=$(remote uname -m) || die "cannot reach $host by ssh"
    case $machine in
        aarch64 | arm64) arch=aarch64 boards='pi4, or another 64-bit board' ;;
        armv7l | armv8l) arch=armv7 boards=armv7 ;;
        armv6l) arch=armv6 boards=pi-zero ;;
        *) die "$host is $machine, for which there is no build here; BINARY=file says what to deploy" ;;
    esac
    binary=dist/tractlet-$arch${SLIM:+-slim}
    [ -e "$binary" ] || die "$host is $machine and there is no $binary: first make $boards${SLIM:+ SLIM=1}"
    echo "$binary"
}

# Into a folder of its own first, so that a connection that breaks leaves what was there, and a running
# binary is replaced and not written into.
deploy() {
    binary=${BINARY:-$(binary)}
    [ -x "$binary" ] || die "BINARY=$binary: there is no such program"
    cp "$binary" "$scratch/tractlet"
    cp -R models "$scratch/models"
    tar -C "$scratch" -cf - tractlet models | remote "
        set -e
        rm -rf $dir.new && mkdir -p $dir.new $dir
        tar -xf - -C $dir.new
        $dir.new/tractlet --version
        mv $dir.new/tractlet $dir/tractlet
        rm -rf $dir/models && mv $dir.new/models $dir/models
        rmdir $dir.new"
    echo "$binary and the models are in $dir on $host"
}

# What was deployed becomes the system's, with a unit that is ready to be started. What /etc/tractlet has stays as it is.
service() {
    case $SERVICE in
        *[!A-Za-z0-9_]*) die "SERVICE=$SERVICE: only letters, digits and _, since it is part of a unit's name" ;;
    esac
    mkdir "$scratch/unit"
    sed 's|^ExecStart=/usr/bin/|ExecStart=/usr/local/bin/|' targets/systemd/tractlet@.service >"$scratch/unit/tractlet@.service"
    sed -e 's|/usr/share/|/usr/local/share/|' -e "s|example.jsonl|$SERVICE.jsonl|" targets/systemd/example.conf \
        >"$scratch/unit/service.conf"
    if [ -n "${BOARD:-}" ]; then
        bytes=$(field "$BOARD" budget_bytes)
        printf '# The budget of %s.\n[Service]\nMemoryMax=%s\n' "$BOARD" "$bytes" >"$scratch/unit/board.conf"
        # Below it, as in the example, so that tractlet says what was too much before the kernel ends it.
        sed -i "s|--max-rss [^ ]*|--max-rss $((bytes / 8 * 7 >> 20))MiB|" "$scratch/unit/service.conf"
    fi
    # ROOT is for tests: a system below a folder.
    tar -C "$scratch/unit" -cf - . | remote "
        set -e
        root=${ROOT:-}
        sudo=\$([ \"\$(id -u)\" -eq 0 ] || echo sudo)
        unit=\$(mktemp -d)
        trap 'rm -rf \"\$unit\"' EXIT
        tar -xf - -C \"\$unit\"
        \$sudo install -D -m 755 $dir/tractlet \$root/usr/local/bin/tractlet
        \$sudo mkdir -p \$root/usr/local/share/tractlet
        # Those of the owner's own beside them stay.
        shipped=\$root/usr/local/share/tractlet/models
        \$sudo mkdir -p \$shipped
        for model in $dir/models/*; do
            \$sudo rm -rf \$shipped/\${model##*/}
            \$sudo cp -R \$model \$shipped/
        done
        system=\$root/etc/systemd/system
        \$sudo install -D -m 644 \$unit/tractlet@.service \$system/tractlet@.service
        [ ! -e \$unit/board.conf ] ||
            \$sudo install -D -m 644 \$unit/board.conf \$system/tractlet@.service.d/board.conf
        [ -e \$root/etc/tractlet/$SERVICE.conf ] ||
            \$sudo install -D -m 644 \$unit/service.conf \$root/etc/tractlet/$SERVICE.conf
        [ -n \"\$root\" ] || \$sudo systemctl daemon-reload"
    echo "the unit tractlet@$SERVICE is on $host; there, once /etc/tractlet/$SERVICE.conf names model and sensor:"
    echo "  sudo systemctl enable --now tractlet@$SERVICE"
}

# Runs one of the scripts here on the board and brings the folder back that it fills.
bring() { # SCRIPT INTO
    mkdir -p "$2"
    {
        echo "set -eu; cd $dir; test -x ./tractlet; results=\$(mktemp -d); trap 'rm -rf \"\$results\"' EXIT"
        # shellcheck disable=SC2016 # for the shell on the board
        echo 'set -- "$results" ./tractlet'
        cat "$1"
        # shellcheck disable=SC2016 # as above
        echo 'tar -C "$results" -cf - .'
    } | remote sh -s >"$scratch/results.tar" || die "it failed on $host; if there is no tractlet yet: make deploy HOST=$host"
    tar -C "$2" -xf "$scratch/results.tar"
}

# The answers of the board on the int8 models are this machine's, bit for bit.
compare() {
    if [ -z "${HOST_TRACTLET:-}" ]; then
        cargo build --locked --quiet --bin tractlet
        HOST_TRACTLET=${CARGO_TARGET_DIR:-target}/debug/tractlet
    fi
    targets/outputs.sh "$scratch/here" "$HOST_TRACTLET"
    bring targets/outputs.sh "$scratch/there"
    for output in "$scratch"/here/*; do
        name=$(basename "$output")
        cmp "$output" "$scratch/there/$name" || die "$host and this machine differ on the int8 model ${name%.npy}"
        echo "${name%.npy}: equal"
    done
}

# The number behind a key that the report has once.
number() { # FILE KEY
    sed -n "s/^ *\"$2\": *\([0-9.]*\),*$/\1/p" "$1"
}

footprint() {
    rm -rf "$results"
    bring targets/footprints.sh "$results"
    printf '%-24s %12s %14s %14s %14s\n' model 'median us' 'heap, KiB' 'loading, KiB' 'running, KiB'
    for report in "$results"/*-footprint.json; do
        name=$(basename "$report" -footprint.json)
        printf '%-24s %12.0f %14d %14d %14d\n' "$name" "$(number "$results/$name-bench.json" median_us)" \
            $(($(number "$report" heap_peak_bytes) / 1024)) $(($(number "$report" load_peak_bytes) / 1024)) \
            $(($(number "$report" run_peak_bytes) / 1024))
    done
    echo "reports: $results"
}

case $action in
    deploy)
        deploy
        [ -z "${SERVICE:-}" ] || service
        ;;
    test) compare ;;
    footprint) footprint ;;
    *) usage ;;
esac
