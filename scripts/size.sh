#!/bin/sh
# size.sh BINARY: what a program that was not stripped consists of, by crate: code and read-only data that have symbols, and
# in one line what has none. The names are what the compiler left in the symbol table; a generic function counts
# for the crate that its body is in, and one for a trait for the crate of the type.
set -eu

[ $# -eq 1 ] || { echo 'usage: size.sh BINARY' >&2; exit 2; }
for tool in nm size; do
    command -v $tool >/dev/null || { echo "size.sh: there is no $tool (Debian: binutils)" >&2; exit 1; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
nm --print-size --demangle "$1" >"$scratch/symbols"
grep -q . "$scratch/symbols" || { echo "size.sh: $1 has no symbols: it was stripped" >&2; exit 1; }
size -A -d "$1" >"$scratch/sections"

awk '
    function hex(text,    value, i) {
        value = 0
        for (i = 1; i <= length(text); i++) value = value * 16 + index("0123456789abcdef", tolower(substr(text, i, 1))) - 1
        return value
    }
    # From `<tractlet::plan::Plan as core::fmt::Debug>::fmt` to `tractlet`.
    function crate(name,    path) {
        path = name
        while (match(path, /^(<|&|\*|mut |const |dyn |\(|\[)/)) path = substr(path, RLENGTH + 1)
        if (!match(path, /^[A-Za-z_][A-Za-z0-9_]*(\[[0-9a-f]+\])?::/)) return "C, assembly and the start"
        path = substr(path, 1, RLENGTH - 2)
        sub(/\[.*/, "", path)
        # What is done to a type of the language itself: all of it is instantiated from there.
        if (path ~ /^(core|alloc|std|__rustc|hashbrown|gimli|addr2line|miniz_oxide|rustc_demangle|object|compiler_builtins)$/)
            return "std"
        return path
    }
    FILENAME ~ /sections$/ {
        if ($1 == ".text") text = $2
        if ($1 ~ /^\.(rodata|eh_frame|eh_frame_hdr|gcc_except_table|data\.rel\.ro|rela\.dyn|data)$/) other[$1] = $2
        next
    }
    NF >= 4 && $3 ~ /^[tTwWvV]$/ {
        # Functions that were found to be the same share an address.
        if (seen[$1]++) next
        name = $0
        sub(/^[0-9a-f]+ [0-9a-f]+ . /, "", name)
        bytes = hex($2)
        owner = crate(name)
        code[owner] += bytes
        count[owner]++
        known += bytes
    }
    END {
        for (owner in code) printf "%d\t%s\t%d\t%d\n", 1, owner, code[owner], count[owner]
        if (text > known) printf "2\tcode without a symbol\t%d\t\n", text - known
        for (name in other) printf "3\tsection %s\t%d\t\n", name, other[name]
    }' "$scratch/sections" "$scratch/symbols" | sort -t "$(printf '\t')" -k 1,1n -k 3,3nr >"$scratch/rows"

all=$(awk -F '\t' '{ all += $3 } END { print all }' "$scratch/rows")
awk -F '\t' -v all="$all" '
    BEGIN { printf "%-36s %10s %7s %10s\n", "crate", "bytes", "%", "functions" }
    # What is small beside the whole stands in one line.
    $1 == 1 && $3 * 400 < all { few += $3; functions += $4; crates++; next }
    $1 > 1 && few { printf "%-36s %10d %7.1f %10d\n", crates " more crates", few, 100 * few / all, functions; few = 0 }
    { printf "%-36s %10d %7.1f %10s\n", $2, $3, 100 * $3 / all, $4 }
    END { printf "%-36s %10d %7.1f\n", "all", all, 100 }' "$scratch/rows"
