#!/usr/bin/env bash
# Every test under sanitizers: tools/run_sanitizers.sh [asan | tsan]..., default both. asan is the address and the
# undefined-behaviour sanitizer together; each has its own build folder, build-asan and build-tsan.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

presets=("$@")
if [ ${#presets[@]} -eq 0 ]; then presets=(asan tsan); fi

# A finding ends the test with its own exit status and shows where the memory came from.
# Use after return is not looked for: GCC 12.2 places those frames at less than the 64 bytes that it promises to its own
# vector stores, and the kernels crash (GCC bug 110027).
export ASAN_OPTIONS=detect_stack_use_after_return=0:strict_string_checks=1:check_initialization_order=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

for preset in "${presets[@]}"; do
  case $preset in asan | tsan) ;; *) die "unknown preset '$preset': asan or tsan." ;; esac
  log=$(cd "$root" && cmake --preset "$preset" 2>&1) || die "configuring build-$preset failed: $log"
  nice ninja -C "$root/build-$preset"
  run=("$root/tools/run_tests.sh" "$root/build-$preset")
  # GCC 12's thread sanitizer knows one memory layout; kernels that randomize addresses by more than 28 bits break
  # it ("unexpected memory mapping"), so the addresses are fixed for the run.
  if [ "$preset" = tsan ]; then run=(setarch --addr-no-randomize "${run[@]}"); fi
  "${run[@]}"
done
