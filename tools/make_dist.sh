#!/usr/bin/env bash
# Packs dist/quench-<version>-linux-x86_64.tar.xz from the release build: the program, its data, and every shared
# library it needs beside it, found by $ORIGIN/../lib. It runs on any x86-64 Linux with glibc 2.36 or later.
#
# Only glibc is left to the target system, because the loader and libc must match each other and the kernel. The C++
# run-time library travels along as a shared object: Debian ships simdjson, fmt and spdlog as shared objects only, they
# need libstdc++.so.6, and a second, static copy of it inside the program would mean two copies in one process.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

glibc_max=2.36
build=$root/build
[ -x "$build/quench" ] || die "there is no build/quench: run make dist."

version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build/CMakeCache.txt")
[ -n "$version" ] || die "no version in build/CMakeCache.txt."
name=quench-$version-linux-x86_64
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
stage=$scratch/$name

cmake --install "$build" --prefix "$stage" --strip >/dev/null
mkdir -p "$stage/lib/quench" "$stage/share/doc/quench"
for file in README.md LICENSE; do
  if [ -f "$root/$file" ]; then cp "$root/$file" "$stage/share/doc/quench"; fi
done

# Everything the program and its plug-ins load, with what those libraries load in turn, less glibc itself. ldd also
# sees through to the build tree's own paths, so it is asked about the built file, not the staged one.
glibc='^(linux-vdso|ld-linux.*|libc|libm|libmvec|libpthread|libdl|librt|libresolv|libutil|libnsl|libanl|libBrokenLocale)\.so'
{
  ldd "$build/quench"
  find "$stage/lib/quench" -name '*.so' -exec ldd {} +
} >"$scratch/ldd"
if grep 'not found' "$scratch/ldd" >&2; then die "the libraries above are missing on this machine."; fi
awk '$2 == "=>" { print $1, $3 }' "$scratch/ldd" | sort -u | grep -v -E "$glibc" >"$scratch/libraries" || true
while read -r soname path; do
  # The content under the name that the loader asks for. -L: Debian's names are links to versioned files.
  cp -L "$path" "$stage/lib/$soname"
  chmod 644 "$stage/lib/$soname"
done <"$scratch/libraries"

# The licences of what travels along, linked or header-only: Debian keeps one text per package.
mkdir -p "$stage/share/doc/quench/licenses"
{
  while read -r _ path; do
    # The package database knows the path below /usr even where ldd prints the one through the /lib link.
    dpkg-query --search "$(readlink -f "$path")" 2>/dev/null || dpkg-query --search "*/x86_64-linux-gnu/$(basename "$(readlink -f "$path")")"
  done <"$scratch/libraries" | cut -d: -f1
  awk '$1 == "build" && $2 ~ /-dev$|^libjs-/ { print $2 }' "$root/packages.txt"
} | sort -u | while read -r package; do
  if [ -f "/usr/share/doc/$package/copyright" ]; then
    cp -L "/usr/share/doc/$package/copyright" "$stage/share/doc/quench/licenses/$package.txt"
  fi
done

# The promise about glibc, checked: no symbol version newer than it anywhere in the archive.
newest=$(find "$stage/bin" "$stage/lib" -type f -exec readelf --version-info --wide {} + 2>/dev/null |
  grep -oE 'GLIBC_[0-9]+(\.[0-9]+)+' | sed 's/GLIBC_//' | sort -uV | tail -1)
if [ "$(printf '%s\n' "$newest" $glibc_max | sort -V | tail -1)" != $glibc_max ]; then
  die "something in the archive needs glibc $newest, over $glibc_max: build it on Debian 12."
fi
# And the one about finding the libraries: no file points back into this machine's folders.
find "$stage/bin" "$stage/lib" -type f -exec readelf --dynamic --wide {} + | grep -E 'RPATH|RUNPATH' |
  grep -v -F '[$ORIGIN' >"$scratch/rpath" || true
if [ -s "$scratch/rpath" ]; then
  cat "$scratch/rpath" >&2
  die "a file in the archive looks for libraries at a fixed place, see above."
fi

# The same input gives the same archive: sorted names, no user names, the commit's time for all.
time=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
mkdir -p "$root/dist"
tar --create --directory "$scratch" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" --mode=u+w,go-w,a+rX \
  "$name" | xz -6 --threads=0 >"$root/dist/$name.tar.xz.part"
mv "$root/dist/$name.tar.xz.part" "$root/dist/$name.tar.xz"
echo "dist/$name.tar.xz: $(stat --format=%s "$root/dist/$name.tar.xz") bytes, needs glibc $newest or later"
