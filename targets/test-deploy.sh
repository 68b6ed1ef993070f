#!/bin/sh
# test-deploy.sh: deploy, test-on and footprint-on against an sshd of our own on loopback, with keys that
# live as long as the test. This machine is the board. Needs Debian's openssh-server and openssh-client.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "test-deploy.sh: $*" >&2
    exit 1
}

sshd=$(PATH=$PATH:/usr/sbin command -v sshd) || fail 'there is no sshd (Debian: openssh-server)'
command -v ssh-keygen >/dev/null || fail 'there is no ssh-keygen (Debian: openssh-client)'
port=${PORT:-22722}
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

ssh-keygen -q -t ed25519 -N '' -f "$scratch/host"
ssh-keygen -q -t ed25519 -N '' -f "$scratch/user"
# A root's sshd wants its privilege separation folder, which a service manager would make.
[ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd
cat >"$scratch/config" <<END
ListenAddress 127.0.0.1
Port $port
HostKey $scratch/host
AuthorizedKeysFile $scratch/user.pub
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
END
"$sshd" -D -e -f "$scratch/config" 2>"$scratch/log" &
server=$!
printf '[127.0.0.1]:%s %s\n' "$port" "$(cat "$scratch/host.pub")" >"$scratch/known"
SSH="ssh -F none -p $port -i $scratch/user -o UserKnownHostsFile=$scratch/known -o BatchMode=yes -o ConnectTimeout=5"
HOST=$(id -un)@127.0.0.1
export SSH
tries=0
until $SSH "$HOST" true 2>"$scratch/ssh"; do
    tries=$((tries + 1))
    [ "$tries" -lt 20 ] || { cat "$scratch/log" "$scratch/ssh" >&2; fail 'the sshd does not answer'; }
    sleep 0.2
done

BINARY=${HOST_TRACTLET:-}
if [ -z "$BINARY" ]; then
    cargo build --locked --quiet --bin tractlet
    BINARY=${CARGO_TARGET_DIR:-target}/debug/tractlet
fi
DIR=$scratch/board
CARGO_TARGET_DIR=$scratch/target
HOST_TRACTLET=$BINARY
export BINARY DIR HOST_TRACTLET CARGO_TARGET_DIR

echo '-- without a deployment it says what to do'
targets/board.sh test "$HOST" >"$scratch/out" 2>&1 && fail 'test passed with nothing deployed'
grep -q 'make deploy' "$scratch/out" || fail "$(cat "$scratch/out")"
echo '-- deploy, and once more over it'
targets/board.sh deploy "$HOST"
targets/board.sh deploy "$HOST" >/dev/null
cmp "$BINARY" "$DIR/tractlet"
[ ! -e "$DIR.new" ] || fail 'the folder of the transfer is still there'
echo '-- deploy as a service, below a root of its own, and once more with what the administrator wrote left alone'
TRACTLET_TEST_ROOT=$scratch/system
root=$TRACTLET_TEST_ROOT
SERVICE=walk
BOARD=pi4
export TRACTLET_TEST_ROOT SERVICE BOARD
targets/board.sh deploy "$HOST" | grep -q 'systemctl enable --now tractlet@walk' || fail 'it does not say how to start it'
cmp "$BINARY" "$root/usr/local/bin/tractlet"
grep -q '^MemoryMax=67108864$' "$root/etc/systemd/system/tractlet@.service.d/board.conf" || fail 'not the budget of a pi4'
grep -q '^CPUQuota=300%$' "$root/etc/systemd/system/tractlet@.service.d/board.conf" || fail 'not three of the four cores of a pi4'
grep -q -e '--max-rss 56MiB' "$root/etc/tractlet/walk.conf" || fail 'no bound below the budget'
model=$(sed -n 's/^STREAM=\([^ ]*\) .*/\1/p' "$root/etc/tractlet/walk.conf")
[ -e "$root$model/model.toml" ] || fail "the example names $model, which was not deployed"
targets/check-unit.sh "$root"
echo STREAM=mine >"$root/etc/tractlet/walk.conf"
targets/board.sh deploy "$HOST" >/dev/null
grep -qx STREAM=mine "$root/etc/tractlet/walk.conf" || fail 'a deployment wrote over the configuration'
unset TRACTLET_TEST_ROOT SERVICE BOARD
echo '-- test'
targets/board.sh test "$HOST"
echo '-- another answer is found'
# Answers from another sample than the one that this machine is asked about.
dd if=/dev/zero of="$DIR/models/kws_dscnn/samples.npy" bs=1 seek=2000 count=4000 conv=notrunc 2>/dev/null
targets/board.sh test "$HOST" >"$scratch/out" 2>&1 && fail 'a wrong answer passed'
grep -q 'differ on the int8 model kws_dscnn' "$scratch/out" || fail "$(cat "$scratch/out")"
echo '-- footprint'
targets/board.sh footprint "$HOST"
grep -q '"run_peak_bytes"' "$CARGO_TARGET_DIR/boards/$HOST/kws_dscnn-int8-footprint.json"
echo '-- a host that is not there is named'
targets/board.sh deploy nobody@127.0.0.2 >"$scratch/out" 2>&1 && fail 'deployed to nowhere'
unset BINARY
targets/board.sh deploy nobody@127.0.0.2 >"$scratch/out" 2>&1 && fail 'deployed to nowhere'
grep -q 'cannot reach nobody@127.0.0.2' "$scratch/out" || fail "$(cat "$scratch/out")"
echo 'ok'
