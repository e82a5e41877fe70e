#!/usr/bin/env bash
# Installs the operating system packages of scripts/packages.txt that are missing. Says nothing when none is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

missing=()
while read -r package command; do
  case $package in '' | '#'*) continue ;; esac
  if ! command -v "$command" >/dev/null 2>&1 && ! [ -x "/usr/sbin/$command" ]; then
    missing+=("$package")
  fi
done <"$here/packages.txt"
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "packages: these are missing and only root can install them: ${missing[*]}" >&2
  echo "packages: run 'sudo make packages' once, then this again" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null; then
  echo "packages: missing ${missing[*]}, and this machine has no apt-get." >&2
  echo "packages: install their like with your own package manager, then run this again" >&2
  exit 1
fi
echo "packages: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Packages that bring a daemon must not start it here: `make up` decides what runs.
policy=/usr/sbin/policy-rc.d
made_policy=no
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made_policy=yes
fi
trap '[ $made_policy = no ] || rm -f $policy' EXIT
log=$(mktemp)
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "packages: apt-get could not install ${missing[*]}; its whole output is in $log" >&2
  exit 1
fi
rm -f "$log"
# Nor at the next boot: the registry's own service would hold the port of the one that `make up` runs.
if [[ " ${missing[*]} " == *" docker-registry "* ]] && [ -d /run/systemd/system ]; then
  systemctl --quiet disable docker-registry 2>/dev/null || true
fi
