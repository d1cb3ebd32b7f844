#!/usr/bin/env bash
# Every fuzz target for SECONDS each: tools/run_fuzz.sh [SECONDS] [TARGET...], default 600 seconds, all targets.
# tests/fuzz/corpus/<name> holds the seeds of tests/fuzz/<name>_fuzz.cc and is only read; what the run discovers is kept
# in build-fuzz/corpus/<name>, and an input that breaks something in build-fuzz/findings/. Exit 1 on a finding.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

seconds=${1:-600}
[[ $seconds =~ ^[0-9]+$ ]] || die "'$seconds' is not a number of seconds."
shift || true
build=$root/build-fuzz

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  mapfile -t targets < <(list_files '*_fuzz.cc' | sed -n 's|^tests/fuzz/\(.*\)_fuzz\.cc$|\1|p')
fi
if [ ${#targets[@]} -eq 0 ]; then
  echo "fuzz: no targets (tests/fuzz/*_fuzz.cc) yet"
  exit 0
fi

log=$(cd "$root" && cmake --preset fuzz 2>&1) || die "configuring build-fuzz failed: $log"
nice ninja -C "$build" "${targets[@]/%/_fuzz}"

found=()
mkdir -p "$build/findings"
for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target"
  # libFuzzer writes new inputs to the first folder and only reads the others.
  corpora=("$build/corpus/$target")
  if [ -d "$root/tests/fuzz/corpus/$target" ]; then corpora+=("$root/tests/fuzz/corpus/$target"); fi
  echo "fuzz: $target for $seconds s"
  # A parser that needs over 10 s or 2 GB for a small input is a finding too: that is how services are brought down.
  "$build/${target}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$build/findings/$target-" "${corpora[@]}" >"$build/findings/$target.log" 2>&1 </dev/null ||
    found+=("$target")
  grep -E 'number_of_executed_units|new_units_added' "$build/findings/$target.log" || true
done
if [ ${#found[@]} -gt 0 ]; then
  for target in "${found[@]}"; do grep -v -E '^(#[0-9]|INFO:)' "$build/findings/$target.log" | head -40 >&2; done
  die "findings in ${found[*]}: the inputs are in build-fuzz/findings/; add each to tests/fuzz/corpus/ with its fix."
fi
echo "fuzz: ${#targets[@]} targets, no finding"
