#!/usr/bin/env bash
# clang-tidy 14 with the checks of .clang-tidy over every source of the build: tools/lint.sh [FILE...]
# Slow (seconds per file), so it is not part of make test; name files to look at those only.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

tidy=clang-tidy-14
build=$root/build-lint
command -v "$tidy" >/dev/null || die "$tidy is not installed: run tools/setup.sh lint."
[ -f "$build/compile_commands.json" ] || die "$build is not configured: run make lint."

# Only what is compiled has a command to be parsed with; generated files are not ours to lint. clang does not know
# GCC's own warning names, hence the unknown-option flag.
files=$(
  python3 - "$build/compile_commands.json" "$root" "$@" <<'PYTHON'
import json, pathlib, sys
commands, root, *chosen = sys.argv[1:]
files = {}
for entry in json.load(open(commands)):
    file = pathlib.Path(entry["file"])
    if file.is_relative_to(root) and file.relative_to(root).parts[0] in ("src", "tests"):
        files[file] = str(file.relative_to(root))
wanted = [pathlib.Path(name).resolve() for name in chosen] or sorted(files)
for file in wanted:
    if file not in files:
        sys.exit(f"lint.sh: {file} is not compiled in build-lint/ (a header is looked at with the sources that include it).")
print(*(files[file] for file in wanted), sep="\n")
PYTHON
) || exit 1

cd "$root"
# A kernel is one long straight line of code on purpose: the function-size check is off below devices/.
xargs -r -P "$(nproc)" -I{} bash -c '
  extra=(); case "$3" in src/devices/*) extra=(--checks=-readability-function-size);; esac
  nice "$1" --quiet -p "$2" "${extra[@]}" --extra-arg=-Wno-unknown-warning-option "$3" 2>/dev/null' \
  lint "$tidy" "$build" {} <<<"$files" || die "clang-tidy found something, see above."
echo "lint: fine"
