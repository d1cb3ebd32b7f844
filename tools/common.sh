# Sourced by the other scripts: where the tree is, which files belong to it, how to stop.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
script_name=$(basename "$0")

# One clear sentence on stderr, then exit 1.
die() {
  echo "$script_name: $*" >&2
  exit 1
}

# The files of the tree that match the given git path patterns, one per line, relative to the root: tracked ones and
# new ones that are not ignored, so that a developer hears of a mistake before the commit and not after it.
# A source archive has no .git: then every file counts that is not below a build folder.
list_files() {
  if git -C "$root" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git -C "$root" ls-files --cached --others --exclude-standard -- "$@"
  else
    local pattern args=()
    for pattern in "$@"; do args+=(-o -name "${pattern##*/}"); done
    (cd "$root" && find . \( -name 'build*' -o -name dist -o -name out \) -prune -o \
      -type f \( "${args[@]:1}" \) -print | sed 's|^\./||')
  fi | sort -u | while IFS= read -r file; do
    # A file that was deleted but not yet staged is still listed.
    if [ -f "$root/$file" ]; then printf '%s\n' "$file"; fi
  done
}
