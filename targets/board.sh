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
# A system below a folder of the board; empty but in tests.
root=${TRACTLET_TEST_ROOT:-}
readable() { # NAME VALUE
    case $2 in
        *[!A-Za-z0-9/._-]* | -*) die "$1=$2: only letters, digits and / . _ -, since a shell on the board reads it" ;;
    esac
}
readable DIR "$dir"
readable TRACTLET_TEST_ROOT "$root"
dir=${dir%"${dir##*[!/]}"}
case $dir in
    '' | . | .. | */. | */..) die "DIR=${DIR:-}: expected a folder of its own, such as tractlet or /opt/tractlet" ;;
esac
case ${SERVICE:-} in
    *[!A-Za-z0-9_]*) die "SERVICE=$SERVICE: only letters, digits and _, since it is part of a unit's name" ;;
esac
# Most that the service may have: the board's budget, or what the unit says.
memory_max=$(sed -n 's/^MemoryMax=\([0-9]*\)M$/\1/p' targets/systemd/tractlet@.service)
memory_max=$((memory_max << 20))
[ -z "${BOARD:-}" ] || memory_max=$(field "$BOARD" budget_bytes)
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
        rm -rf $dir.new && mkdir -p $dir.new $dir/models
        tar -xf - -C $dir.new
        $dir.new/tractlet --version
        mv $dir.new/tractlet $dir/tractlet
        # What is the owner's own beside them stays.
        for shipped in $dir.new/models/*; do
            rm -rf $dir/models/\${shipped##*/}
            mv \$shipped $dir/models/
        done
        rmdir $dir.new/models $dir.new"
    echo "$binary and the models are in $dir on $host"
}

# Its input is what is deployed, so that it cannot ask for a password.
rights() {
    status=0
    # shellcheck disable=SC2016 # for the shell on the board
    remote '[ "$(id -u)" -eq 0 ] || sudo -n true' </dev/null || status=$?
    # What ssh itself ends with.
    [ "$status" -ne 255 ] || die "cannot reach $host by ssh"
    [ "$status" -eq 0 ] || die "SERVICE=$SERVICE takes root on $host, and sudo gives it only for a password, which nobody can type
  here. Let it do without one (NOPASSWD in /etc/sudoers.d there), or HOST=root@... Nothing was deployed."
}

# What was deployed becomes the system's, with a unit that is ready to be started. What /etc/tractlet has stays as it is.
service() {
    mkdir "$scratch/unit"
    for file in tractlet@.service example.conf; do
        sed -e 's|/usr/bin/|/usr/local/bin/|' -e 's|/usr/share/|/usr/local/share/|' "targets/systemd/$file" >"$scratch/unit/$file"
    done
    cp targets/systemd/tractlet.logrotate "$scratch/unit/"
    sed "s|example.jsonl|$SERVICE.jsonl|" "$scratch/unit/example.conf" >"$scratch/unit/service.conf"
    if [ -n "${BOARD:-}" ]; then
        cores=$(field "$BOARD" cores)
        # The rest of the board keeps a core, or a tenth of the only one.
        [ "$cores" -gt 1 ] && cpu_quota=$(((cores - 1) * 100)) || cpu_quota=90
        printf '# What %s has for it.\n[Service]\nMemoryMax=%s\nCPUQuota=%s%%\n' "$BOARD" "$memory_max" "$cpu_quota" \
            >"$scratch/unit/board.conf"
        # Below it, as in the example, so that tractlet says what was too much before the kernel ends it.
        sed -i "s|--max-rss [^ ]*|--max-rss $((memory_max / 8 * 7 >> 20))MiB|" "$scratch/unit/service.conf"
    fi
    models=$(cd models && echo *)
    tar -C "$scratch/unit" -cf - . | remote "
        set -e
        sudo=\$([ \"\$(id -u)\" -eq 0 ] || echo sudo -n)
        unit=\$(mktemp -d)
        trap 'rm -rf \"\$unit\"' EXIT
        tar -xf - -C \"\$unit\"
        \$sudo install -D -m 755 $dir/tractlet $root/usr/local/bin/tractlet
        # What is the owner's own beside them stays.
        shipped=$root/usr/local/share/tractlet/models
        \$sudo mkdir -p \$shipped
        for model in $models; do
            \$sudo rm -rf \$shipped/\$model
            \$sudo cp -R $dir/models/\$model \$shipped/
        done
        \$sudo install -D -m 644 \$unit/example.conf $root/usr/local/share/doc/tractlet/examples/example.conf
        system=$root/etc/systemd/system
        \$sudo install -D -m 644 \$unit/tractlet@.service \$system/tractlet@.service
        # The budget of an earlier deployment holds no longer.
        \$sudo rm -f \$system/tractlet@.service.d/board.conf
        [ ! -e \$unit/board.conf ] ||
            \$sudo install -D -m 644 \$unit/board.conf \$system/tractlet@.service.d/board.conf
        [ -e $root/etc/logrotate.d/tractlet ] ||
            \$sudo install -D -m 644 \$unit/tractlet.logrotate $root/etc/logrotate.d/tractlet
        [ -e $root/etc/tractlet/$SERVICE.conf ] ||
            \$sudo install -D -m 644 \$unit/service.conf $root/etc/tractlet/$SERVICE.conf
        [ -n '$root' ] || \$sudo systemctl daemon-reload
        \$sudo sed -n 's/^STREAM=.*--max-rss[ =]\([^ ]*\).*/\1/p' $root/etc/tractlet/$SERVICE.conf" >"$scratch/max-rss"
    bound=$(bytes "$(cat "$scratch/max-rss")")
    [ "${bound:-0}" -le "$memory_max" ] || echo "warning: /etc/tractlet/$SERVICE.conf on $host, which stays as it was, has --max-rss \
$(cat "$scratch/max-rss"), above the unit's MemoryMax of $memory_max bytes: the kernel would end the stream, and nothing say why" >&2
    echo "the unit tractlet@$SERVICE is on $host; there, once /etc/tractlet/$SERVICE.conf names model and sensor:"
    echo "  sudo systemctl enable --now tractlet@$SERVICE"
}

# Bytes of what --max-rss takes: a board, or a size; nothing where it is neither.
bytes() { # WORD
    if [ -e "targets/$1.toml" ]; then
        field "$1" budget_bytes
    else
        echo "$1" | awk 'match($0, /^[0-9]+/) {
            units = "B 1 KiB 1024 MiB 1048576 GiB 1073741824 kB 1000 MB 1000000 GB 1000000000"
            count = split(units, unit); number = substr($0, 1, RLENGTH); name = substr($0, RLENGTH + 1)
            if (name == "") name = "B"
            for (i = 1; i < count; i += 2) if (unit[i] == name) printf "%.0f\n", number * unit[i + 1]
        }'
    fi
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
    bring targets/footprints.sh "$scratch/reports"
    # The last ones stay until there are new ones.
    mkdir -p "$results"
    rm -rf "$results"
    mv "$scratch/reports" "$results"
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
        [ -z "${SERVICE:-}" ] || rights
        deploy
        [ -z "${SERVICE:-}" ] || service
        ;;
    test) compare ;;
    footprint) footprint ;;
    *) usage ;;
esac
