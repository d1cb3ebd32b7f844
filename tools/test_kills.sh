#!/usr/bin/env bash
# Kills `quench quantize` at random moments and resumes it until it ends: tools/test_kills.sh [ROUNDS], default 100.
# Every result must have the bytes of an uninterrupted run. Works on the model that ships; needs build/quench.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

rounds=${1:-100}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
job=("$root/build/quench" quantize demo --format int3 --algorithm search --threads 1)
digest() { (cd "$1" && sha256sum -- * | sha256sum); }

begin=$(date +%s%N)
"${job[@]}" -o "$scratch/whole" >/dev/null 2>&1
took_ms=$((($(date +%s%N) - begin) / 1000000))
wanted=$(digest "$scratch/whole")
kills=0
for ((round = 1; round <= rounds; round++)); do
  resume=()
  until [ -d "$scratch/out" ]; do
    "${job[@]}" -o "$scratch/out" "${resume[@]}" >/dev/null 2>&1 &
    pid=$!
    # Somewhere in the run, or after its end.
    sleep "$(awk -v t="$took_ms" -v r="$RANDOM" 'BEGIN { print 1.1 * t * r / 32768 / 1000 }')"
    if kill -9 "$pid" 2>/dev/null; then kills=$((kills + 1)); fi
    wait "$pid" 2>/dev/null || true
    if [ -d "$scratch/out.partial" ]; then resume=(--resume); fi
  done
  [ "$(digest "$scratch/out")" = "$wanted" ] || die "round $round: the resumed result differs."
  [ ! -e "$scratch/out.partial" ] || die "round $round: something was left behind."
  rm -rf "$scratch/out"
done
echo "kills: $rounds jobs, $kills kills, every result has the bytes of an uninterrupted run"
