#!/bin/sh
# check-unit.sh ROOT: the unit below a root, which has the program too, is one that systemd takes, and leaves a service
# little to do harm with. Says so where there is no systemd-analyze, and passes.
set -eu
cd "$(dirname "$0")/.."
. targets/common.sh

[ $# -eq 1 ] || { echo 'usage: check-unit.sh ROOT' >&2; exit 2; }
root=$1
if ! command -v systemd-analyze >/dev/null; then
    echo 'skipped: there is no systemd-analyze (Debian: systemd), so the unit was not looked at'
    exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# By itself: what else a system has is not meant.
mkdir -p "$scratch/etc/systemd/system" "$scratch/usr/bin" "$scratch/bin"
unit=$(find "$root" -path '*/systemd/system/tractlet@.service' | head -n 1)
[ -n "$unit" ] || die "there is no unit below $root"
sed 's|^ExecStart=[^ ]*|ExecStart=/usr/bin/tractlet|' "$unit" >"$scratch/etc/systemd/system/tractlet@.service"
program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")
[ -x "$root$program" ] || die "$unit starts $program, which is not below $root"
# Anything that can be executed: systemd looks and does not start it.
cp "$root$program" "$scratch/usr/bin/tractlet"
cp /bin/sh "$scratch/bin/kill"
# An error in a line is a warning that ends in 0, so what it says counts; other units' absence in this root does not.
systemd-analyze --root="$scratch" --man=no verify tractlet@test.service >"$scratch/said" 2>&1 || :
if grep -E 'tractlet@' "$scratch/said" | grep -vE 'not found|Failed to (load|add)' >&2; then
    die "systemd objects to $unit: see above"
fi
systemd-analyze --root="$scratch" --offline=true --threshold=20 security tractlet@test.service >"$scratch/security" 2>&1 ||
    { cat "$scratch/security" >&2; die "$unit exposes more than 2.0 of 10"; }
tail -n 1 "$scratch/security"
