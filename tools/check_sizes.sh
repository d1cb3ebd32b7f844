#!/usr/bin/env bash
# File length rules: no source over 1000 lines (an error), few over 500 (a warning: it probably wants a wall
# somewhere); everything tracked together under 40 MiB. Generated tables (*_table.inc) and data do not count as source.
# tools/check_sizes.sh [--self-test]
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

max_lines=1000
warn_lines=500
max_total_bytes=$((40 * 1024 * 1024))

# Judges the files named on stdin below the folder $1.
check_lines() (
  cd "$1"
  xargs -r -d '\n' wc -l | awk -v max=$max_lines -v warn=$warn_lines '
    $2 == "total" { next }
    $1 > max { print $2 ": " $1 " lines, " max " are allowed: split it" > "/dev/stderr"; bad = 1; next }
    $1 > warn { print "note: " $2 " has " $1 " lines (over " warn ")" }
    END { exit bad }'
)

# Sums the files named on stdin below the folder $1.
total_bytes() (
  cd "$1"
  xargs -r -d '\n' stat --format=%s | awk '{ sum += $1 } END { printf "%d\n", sum }'
)

if [ "${1:-}" = --self-test ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  seq 1000 >"$scratch/good.cc"
  seq 1001 >"$scratch/bad.cc"
  check_lines "$scratch" <<<good.cc >/dev/null || die "self-test: a file of 1000 lines was refused."
  if check_lines "$scratch" <<<bad.cc 2>/dev/null; then die "self-test: a file of 1001 lines was accepted."; fi
  [ "$(total_bytes "$scratch" <<<good.cc)" -eq "$(stat --format=%s "$scratch/good.cc")" ] || die "self-test: wrong sum."
  exit 0
fi

list_files '*.h' '*.cc' '*.cu' '*.cuh' '*.py' '*.sh' '*.cmake' '*.js' '*.mjs' 'CMakeLists.txt' 'Makefile' |
  check_lines "$root" || die "the files above are too long."

total=$(list_files '*' | total_bytes "$root")
if [ "$total" -gt $max_total_bytes ]; then
  list_files '*' | (cd "$root" && xargs -d '\n' du -b | sort -rn | head) >&2
  die "the tree's files add up to $total bytes, $max_total_bytes are allowed; the largest are above."
fi
echo "sizes: $(list_files '*' | wc -l) files, $total bytes"
