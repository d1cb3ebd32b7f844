#!/usr/bin/env bash
# Every source is as clang-format 14 would write it; ASCII but for tests, no tab, no blank at a line's end, newline at the end.
# tools/check_format.sh [--fix | --self-test]. Generated tables (*_table.inc) are left alone.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

# Exactly this version: other versions format differently, and then two developers undo each other's work.
formatter=clang-format-14

# The text rules, for the files named on stdin below the folder $1. Prints file:line: message; exit 1 if any.
check_text() (
  cd "$1"
  status=0
  # places PATTERN FILE MESSAGE: "file:line: message" for every line that matches.
  places() { { LC_ALL=C grep -nHP "$1" "$2" || true; } | cut -d: -f1,2 | sed "s/\$/: $3/"; }
  while IFS= read -r file; do
    # Tests read better with the characters they are about.
    [[ $file == *_test.cc ]] || places '[^\x00-\x7F]' "$file" 'not ASCII (write an escape in a literal)'
    places '\t' "$file" 'tab'
    places '[ \r]$' "$file" 'blank at the end of the line'
    if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then echo "$file: no newline at the end"; fi
  done >"$scratch/text"
  if [ -s "$scratch/text" ]; then
    cat "$scratch/text" >&2
    status=1
  fi
  exit $status
)

check_style() (
  cd "$1"
  # --style=file looks upwards from each file; -n tells, -Werror makes it an error.
  xargs -r -P "$(nproc)" -n 16 "$formatter" --style=file -n -Werror
)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

command -v "$formatter" >/dev/null || die "$formatter is not installed: run tools/setup.sh test."

if [ "${1:-}" = --self-test ]; then
  # Each bad file breaks one rule; the check must refuse every one and accept the good one.
  mkdir "$scratch/tree"
  cp "$root/.clang-format" "$scratch/tree"
  printf 'int good;\n' >"$scratch/tree/good.cc"
  printf 'int bad;  \n' >"$scratch/tree/blank.cc"
  printf '//\tbad\n' >"$scratch/tree/tab.cc"
  printf '// caf\303\251\n' >"$scratch/tree/ascii.cc"
  printf 'int bad;' >"$scratch/tree/newline.cc"
  printf 'int   bad ;\n' >"$scratch/tree/style.cc"
  (check_text "$scratch/tree" && check_style "$scratch/tree") <<<good.cc 2>/dev/null || die "self-test: the good file was refused."
  for bad in blank tab ascii newline; do
    if check_text "$scratch/tree" <<<"$bad.cc" 2>/dev/null; then die "self-test: $bad.cc was accepted."; fi
  done
  if check_style "$scratch/tree" <<<style.cc 2>/dev/null; then die "self-test: style.cc was accepted."; fi
  exit 0
fi

list_files '*.h' '*.cc' '*.cu' '*.cuh' | grep -v '_table\.inc$' >"$scratch/sources" || true
if [ "${1:-}" = --fix ]; then
  (cd "$root" && xargs -r -P "$(nproc)" -n 16 "$formatter" --style=file -i) <"$scratch/sources"
  exit 0
fi

status=0
check_text "$root" <"$scratch/sources" || status=1
check_style "$root" <"$scratch/sources" || status=1
if [ $status -ne 0 ]; then die "the files above are not in the project's format: 'make format' mends what a program can mend."; fi
echo "format: $(wc -l <"$scratch/sources") files are fine"
