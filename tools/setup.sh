#!/usr/bin/env bash
# Installs what packages.txt lists and this system lacks: tools/setup.sh [GROUP...], default "build test".
# Does nothing, in a fraction of a second, when nothing is missing, so that every make target can call it first.
# tools/setup.sh --check [GROUP...] only asks: exit 1 when something is missing.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

if [ "${QUENCH_SKIP_SETUP:-0}" = 1 ]; then exit 0; fi

check_only=0
if [ "${1:-}" = --check ]; then
  check_only=1
  shift
fi
groups=("$@")
if [ ${#groups[@]} -eq 0 ]; then groups=(build test); fi

mapfile -t wanted < <(awk -v groups="${groups[*]}" '
  BEGIN { n = split(groups, list, " "); for (i = 1; i <= n; i++) chosen[list[i]] = 1 }
  { sub(/#.*/, "") }
  NF == 2 && ($1 in chosen) && !seen[$2]++ { print $2 }' "$root/packages.txt")
if [ ${#wanted[@]} -eq 0 ]; then die "packages.txt has no package in the group(s) ${groups[*]}."; fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  die "this system has no apt (Debian 12 is what quench is built on): install the equivalents of ${wanted[*]}" \
    "by hand and run make again with QUENCH_SKIP_SETUP=1."
fi

# One query for all. It exits 1 when a name is unknown to dpkg, which only means "not installed" here.
installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true)
missing=()
for package in "${wanted[@]}"; do
  if ! grep -qx "installed $package" <<<"$installed"; then missing+=("$package"); fi
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
if [ $check_only -eq 1 ]; then exit 1; fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null ||
    die "installing packages needs root and there is no sudo: run as root 'apt-get install ${missing[*]}'."
  as_root=(sudo)
fi
# Another apt may be running (a fresh machine often updates itself): wait for its lock instead of failing at once.
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

echo "$script_name: installing ${missing[*]}" >&2
apt update >&2 || die "'apt-get update' failed, see above: check the network and the package sources, then run make again."
apt install --no-install-recommends "${missing[@]}" >&2 ||
  die "apt could not install all of ${missing[*]}, see above; mend that (or install them by hand) and run make again."
