#!/usr/bin/env bash
# Unpacks the archive of make dist into an empty root folder that holds only glibc's run-time files, and runs the
# program there: nothing of this machine's libraries can help it. tools/test_dist.sh [ARCHIVE]
# Needs root or unprivileged user namespaces; everything that is mounted lives in a mount namespace of its own and
# disappears with it, however the run ends.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

archive=${1:-}
if [ -z "$archive" ]; then
  archive=$(find "$root/dist" -name 'quench-*.tar.xz' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-)
fi
[ -f "$archive" ] || die "there is no archive below dist/: run make dist."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/root
mkdir -p "$tree"/{opt,tmp,proc,dev,lib64,lib/x86_64-linux-gnu}
tar --extract --xz --file "$archive" --directory "$tree/opt" --strip-components=1

# The package that owns libc.so.6 is glibc's run time: its shared objects and nothing else go in.
dpkg-query --listfiles libc6 | grep -E '/(ld-linux[^/]*|lib[^/]*)\.so(\.[0-9]+)*$' | grep -v -E '/(gconv|audit)/' |
  while read -r file; do if [ -f "$file" ]; then cp -L "$file" "$tree/lib/x86_64-linux-gnu"; fi; done
cp -L /lib64/ld-linux-x86-64.so.2 "$tree/lib64"

# run COMMAND...: in the empty root, with /proc (the program finds its data from /proc/self/exe) and nothing else.
as_user=()
if [ "$(id -u)" -ne 0 ]; then as_user=(--map-root-user); fi
run() {
  # shellcheck disable=SC2016
  unshare --mount --pid --fork "${as_user[@]}" bash -c '
    set -e
    mount -t proc proc "$0/proc"
    touch "$0/dev/null"
    mount --bind /dev/null "$0/dev/null"
    exec env -i HOME=/tmp PATH=/opt/bin LC_ALL=C /usr/sbin/chroot "$0" "$@"' "$tree" "$@" </dev/null
}

# The empty root must really be empty, or the test proves nothing.
if [ -n "$(find "$tree/lib" "$tree/lib64" -name 'libstdc++*')" ]; then die "the test's root holds more than glibc."; fi

run /opt/bin/quench --help >"$scratch/out" || die "quench --help failed in an empty system, see above."
[ -s "$scratch/out" ] || die "quench --help printed nothing in an empty system."
echo "dist: quench --help runs in a system with nothing but glibc ($(wc -c <"$archive") bytes of archive)"

if grep -qw shootout "$scratch/out"; then
  run /opt/bin/quench shootout --quick || die "quench shootout --quick failed in an empty system, see above."
  echo "dist: quench shootout --quick runs there too"
fi
