#!/usr/bin/env bash
# A fresh Debian 12 with git and make and nothing else, the committed state of this repository cloned into it, and then
# what a newcomer types: make demo, make test, each timed. tools/test_in_chroot.sh [TARGET...], default "demo test".
#
# Needs root (chroot, mounts) and the network that apt uses here: the package sources and settings of this system are
# copied into the new one at run time. KEEP=1 leaves the folder behind for a look.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then targets=(demo test); fi
[ "$(id -u)" -eq 0 ] || die "this needs root: it mounts /proc and calls chroot."
"$root/tools/setup.sh" chroot

# Everything is mounted inside a mount namespace of this process: the mounts end with it, even after kill -9, so the
# removal below can never reach through one of them.
if [ "${QUENCH_IN_NAMESPACE:-}" != 1 ]; then
  QUENCH_IN_NAMESPACE=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

scratch=$(mktemp -d)
tree=$scratch/debian
cleanup() {
  status=$?
  # Lazily, and the deepest first: a process that is still dying must not keep the folder alive.
  awk -v tree="$tree" 'index($2, tree) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount --lazy
  if [ "${KEEP:-0}" = 1 ]; then
    echo "$script_name: left in $tree" >&2
  else
    # --one-file-system: a second lock on the door to whatever were still mounted.
    rm -rf --one-file-system "$scratch"
  fi
  exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# The first archive of this system's package sources that has bookworm's packages.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | sort | uniq -c |
  sort -rn | awk 'NR == 1 { print $2 }')
[ -n "$mirror" ] || die "apt on this system knows no source for bookworm: run apt-get update on a Debian 12."

seconds() { date +%s.%N; }
took() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f s", b - a }'; }

start=$(seconds)
mkdir "$tree"
debootstrap --variant=minbase bookworm "$tree" "$mirror" >"$scratch/debootstrap.log" 2>&1 ||
  { tail -20 "$scratch/debootstrap.log" >&2; die "debootstrap failed, see above."; }

# How apt reaches its packages here, and how names are resolved; nothing else of this system.
for part in apt.conf apt.conf.d auth.conf auth.conf.d keyrings preferences preferences.d sources.list sources.list.d \
  trusted.gpg trusted.gpg.d; do
  if [ -e "/etc/apt/$part" ]; then
    rm -rf "$tree/etc/apt/$part"
    cp -aL "/etc/apt/$part" "$tree/etc/apt/$part"
  fi
done
# A list file that is switched off by its name (*.disabled) stays switched off; debootstrap's own would double ours.
if [ ! -e /etc/apt/sources.list ]; then rm -f "$tree/etc/apt/sources.list"; fi
mkdir -p "$tree/usr/share/keyrings"
cp -aL /usr/share/keyrings/. "$tree/usr/share/keyrings/"
for file in /etc/resolv.conf /etc/hosts; do cp -L "$file" "$tree$file"; done
# Certificates, because a package source may be reached over TLS and a minimal Debian has none.
if [ -d /etc/ssl/certs ]; then
  mkdir -p "$tree/etc/ssl"
  cp -aL /etc/ssl/certs "$tree/etc/ssl/" 2>/dev/null || true
fi

mount -t proc proc "$tree/proc"
mount -t sysfs -o ro sysfs "$tree/sys" || true
mount --bind /dev "$tree/dev"
mkdir -p "$tree/dev/pts"
mount --bind /dev/pts "$tree/dev/pts" || true

# No variable of the caller reaches the new system, except how to get through a proxy.
inside() {
  env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 ${CI:+CI="$CI"} \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
    chroot "$tree" "$@" </dev/null
}
inside apt-get -q update >"$scratch/apt.log" 2>&1 &&
  inside env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends git make >>"$scratch/apt.log" 2>&1 ||
  { tail -20 "$scratch/apt.log" >&2; die "installing git and make in the new system failed, see above."; }
# The lists go again: a fresh machine has old ones or none, and set-up must cope with that.
rm -rf "$tree"/var/lib/apt/lists/*
echo "$script_name: a fresh Debian $(cat "$tree/etc/debian_version") after $(took "$start")"

git -C "$root" rev-parse --verify --quiet HEAD >/dev/null || die "nothing is committed."
git clone --quiet --no-hardlinks "file://$root" "$tree/srv/quench" 2>"$scratch/clone.log" ||
  { cat "$scratch/clone.log" >&2; die "cloning the repository failed, see above."; }
# Owned by whoever works there, as after a clone of one's own.
chown -R 0:0 "$tree/srv/quench"
if [ -n "$(git -C "$root" status --porcelain)" ]; then
  echo "$script_name: note: changes that are not committed are not tested" >&2
fi

summary=()
for target in "${targets[@]}"; do
  start=$(seconds)
  inside make -C /srv/quench "$target" || die "make $target failed in a fresh Debian, see above."
  summary+=("make $target: $(took "$start")")
done
start=$(seconds)
inside make -C /srv/quench "${targets[0]}" >/dev/null
summary+=("make ${targets[0]} again: $(took "$start")")
printf '%s\n' "${summary[@]}"
