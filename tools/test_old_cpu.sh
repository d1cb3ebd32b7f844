#!/usr/bin/env bash
# Runs the program on CPUs of the past, emulated by qemu-user: an instruction of a higher level that leaked into common
# code dies there. tools/test_old_cpu.sh [BUILD_DIR]      Opt-in: needs the package qemu-user, minutes slow.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

quench=${1:-$root/build}/quench
[ -x "$quench" ] || die "there is no $quench: run make build first."
if ! command -v qemu-x86_64 >/dev/null; then
  echo "$script_name: skipped: qemu-x86_64 is not installed (apt-get install qemu-user)."
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset QUENCH_ISA

# The emulator must really refuse what such a CPU lacks, or the test proves nothing.
printf '%s\n' '#include <immintrin.h>' \
  'int main(int argc, char**) { return _mm512_reduce_add_epi32(_mm512_set1_epi32(argc)) == 16 ? 0 : 3; }' >"$scratch/new.cc"
g++ -O1 -mavx512f -o "$scratch/new" "$scratch/new.cc"
if qemu-x86_64 -cpu Nehalem "$scratch/new" 2>/dev/null; then die "the emulated Nehalem runs AVX-512: qemu-user is no judge."; fi

# CPU model, the level that must be chosen. qemu warns about features that it does not emulate: harmless.
for row in "Nehalem ref" "Haswell avx2"; do
  read -r cpu level <<<"$row"
  emulate=(qemu-x86_64 -cpu "$cpu" "$quench")
  "${emulate[@]}" list devices 2>"$scratch/err" >"$scratch/out" || die "$cpu: quench list devices failed: $(tail -1 "$scratch/err")"
  grep -q "level $level\$" "$scratch/out" || die "$cpu: expected level $level, found: $(cat "$scratch/out")"
  "${emulate[@]}" check --quick 2>"$scratch/err" >"$scratch/out" ||
    die "$cpu: quench check failed (status $?): $(tail -3 "$scratch/err") $(grep -B1 -A3 'NO' "$scratch/out" || true)"
  echo "$cpu: quench check passes, levels: $(awk '/^level/ { printf "%s ", $2 }' "$scratch/out")"
  "${emulate[@]}" run --prompt "Once upon a time" --greedy --max_new_tokens 8 2>"$scratch/err" >"$scratch/out" ||
    die "$cpu: quench run failed (status $?): $(tail -3 "$scratch/err")"
  "$quench" run --isa "$level" --prompt "Once upon a time" --greedy --max_new_tokens 8 2>/dev/null >"$scratch/here"
  cmp -s "$scratch/out" "$scratch/here" || die "$cpu: the same level answers otherwise here: $(diff "$scratch/out" "$scratch/here")"
  echo "$cpu: quench run answers as the $level level does here"
done
