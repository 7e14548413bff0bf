#!/usr/bin/env bash
# Makes the programs available that tests drive and pip cannot install: Chromium, Prometheus (with promtool), Node
# with npm.
# What is on PATH is left alone. Else, as root on Debian: Chromium and Node are installed; Prometheus is only
# unpacked into .tools/, because its package would start a service. Else the missing ones are named.
# Always ends with 0: the tests that need a missing program skip by its name, and fail when CI=true
# (tests/system_parts.py). Called by `make` before the tests; safe to run again.
set -euo pipefail

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
tools="${MATTEHORN_TOOLS:-$repo/.tools}"
updated=no

have() {
  command -v "$1" >/dev/null || [[ -x "$tools/usr/bin/$1" ]]
}

# Package lists are fetched once, and only when something has to be installed.
update_lists() {
  if [[ "$updated" == no ]]; then
    apt-get update -q || return 1
    updated=yes
  fi
}

install_packages() {
  update_lists && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# The sandbox user of apt may not write into our folder, hence root.
unpack_package() {
  local folder
  folder="$(mktemp -d)"
  update_lists \
    && (cd "$folder" && apt-get download -q -o APT::Sandbox::User=root "$1") \
    && mkdir -p "$tools" \
    && dpkg -x "$folder"/"$1"_*.deb "$tools"
  local status=$?
  rm -rf "$folder"
  return "$status"
}

fetch_missing() {
  if ! have chromium; then
    # The font gives Chinese glyphs; without it the Chinese page is drawn as empty boxes.
    install_packages chromium fonts-noto-cjk || echo "chromium: apt-get could not install it." >&2
  fi
  if ! have prometheus || ! have promtool; then
    unpack_package prometheus || echo "prometheus: apt-get could not fetch it." >&2
  fi
  if ! have node; then
    install_packages nodejs || echo "node: apt-get could not install it." >&2
  fi
  if ! have npm; then
    install_packages npm || echo "npm: apt-get could not install it." >&2
  fi
}

if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
  fetch_missing
fi

for part in chromium prometheus promtool node npm; do
  have "$part" || echo "missing: $part (tests that need it skip; put it on PATH or into $tools/usr/bin)"
done
exit 0
