#!/usr/bin/env bash
# No weak definition in the objects of src/devices/cpu/<isa>/ (ref/ is plain C++ and exempt).
#
# Why: inline library code (std::vector, std::max, ...) that a kernel file uses is compiled with that file's instruction
# set and emitted as a weak symbol. The linker keeps one copy of a weak symbol for the whole program; if it is the one
# with AVX-512 in it, older CPUs crash far away from the kernel. At -O0 nothing is inlined, so everything that could
# ever become weak shows, whatever the optimizer would do today.
#
# tools/check_weak_symbols.sh [--self-test] [BUILD_DIR]    BUILD_DIR: a configured one (default build), for the flags
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

# Prints "file: symbol" for every weak definition in the object $1, on behalf of source $2.
# nm's letters: W and V weak, u unique (a GNU kind of weak); lower-case w and v are mere uses.
weak_definitions() {
  nm --demangle --defined-only "$1" | awk -v source="$2" '
    $2 ~ /^[WVu]$/ { $1 = ""; $2 = ""; sub(/^ +/, ""); print source ": " $0 }'
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ "${1:-}" = --self-test ]; then
  cat >"$scratch/bad.cc" <<'SOURCE'
#include <vector>
int sum(const int* x, int n) { std::vector<int> copy(x, x + n); return copy.back(); }
SOURCE
  cat >"$scratch/good.cc" <<'SOURCE'
#include <immintrin.h>
namespace { template <class T> T add(T a, T b) { return a + b; } }
void sum(const float* x, float* y) { _mm512_storeu_ps(y, add(_mm512_loadu_ps(x), _mm512_set1_ps(1.0f))); }
SOURCE
  for name in bad good; do
    g++ -std=c++20 -mavx512f -O0 -c "$scratch/$name.cc" -o "$scratch/$name.o"
    weak_definitions "$scratch/$name.o" "$name.cc" >"$scratch/$name.txt"
  done
  [ -s "$scratch/bad.txt" ] || die "self-test: a kernel with std::vector was accepted."
  [ ! -s "$scratch/good.txt" ] || die "self-test: a kernel with raw pointers was refused: $(head -1 "$scratch/good.txt")"
  exit 0
fi

build=${1:-$root/build}
list_files '*.cc' | grep '^src/devices/cpu/[^/]*/' | grep -v -e '^src/devices/cpu/ref/' -e '_test\.cc$' >"$scratch/sources" || true
if [ ! -s "$scratch/sources" ]; then
  echo "weak symbols: no ISA folders yet"
  exit 0
fi
[ -f "$build/compile_commands.json" ] || die "$build is not configured: run make build first."

# The real flags of each file, with -O0 in place of the optimization and the object in our folder. A file without
# a command is an error: it would be checked by nobody.
python3 - "$build/compile_commands.json" "$root" "$scratch" <<'PYTHON' || die "see above."
import json, pathlib, shlex, sys
commands, root, scratch = sys.argv[1:]
by_file = {entry["file"]: entry for entry in json.load(open(commands))}
# The compiler may be called through ccache: harmless, keep it.
for index, source in enumerate(pathlib.Path(scratch, "sources").read_text().split()):
    entry = by_file.get(str(pathlib.Path(root, source)))
    if entry is None:
        sys.exit(f"{source} is not part of the build: run make build, or tell CMakeLists.txt about it.")
    words = [w for w in shlex.split(entry["command"]) if not w.startswith(("-O", "-g"))]
    words[words.index("-o") + 1] = f"{scratch}/{index}.o"
    line = f"cd {shlex.quote(entry['directory'])} && {shlex.join(words + ['-O0'])}"
    pathlib.Path(scratch, f"{index}.sh").write_text(line + "\n")
    pathlib.Path(scratch, f"{index}.name").write_text(source)
PYTHON

find "$scratch" -name '*.sh' -print0 | xargs -0 -P "$(nproc)" -n 1 bash || die "a kernel file does not compile at -O0, see above."
for name in "$scratch"/*.name; do
  weak_definitions "${name%.name}.o" "$(cat "$name")"
done >"$scratch/weak"
if [ -s "$scratch/weak" ]; then
  cat "$scratch/weak" >&2
  die "$(wc -l <"$scratch/weak") weak definitions in kernels of one instruction set: use raw pointers and unnamed namespaces."
fi
echo "weak symbols: $(wc -l <"$scratch/sources") kernel files define none"
