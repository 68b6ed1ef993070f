#!/bin/sh
# into.sh MARKER TABLE FILE: puts what is in TABLE between the lines `<!-- MARKER` and `<!-- end` of FILE, and shows it.
set -eu
[ $# -eq 3 ] || { echo 'usage: into.sh MARKER TABLE FILE' >&2; exit 2; }
marker=$1 table=$2 file=$3
[ -s "$table" ] || { echo "into.sh: $table is empty" >&2; exit 1; }
new=$(mktemp)
trap 'rm -f "$new"' EXIT
# One pair of the markers, the second behind the first; else everything to the end would go.
awk -v marker="<!-- $marker" -v table="$table" '
    state == 1 && /^<!-- end/ { state = 2 }
    state != 1 { print }
    state == 0 && index($0, marker) == 1 {
        state = 1
        while ((getline line < table) > 0) print line
    }
    END { exit state != 2 }
' "$file" >"$new" || { echo "into.sh: $file has no lines '<!-- $marker' and '<!-- end' behind it" >&2; exit 1; }
cat "$new" >"$file"
cat "$table"
