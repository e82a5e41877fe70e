#!/usr/bin/env bash
# Stops what `make up` started and removes what it made: containers, shims, namespaces, mounts, links, firewall
# rules and run/. Nothing else. Safe to run twice, and after an up that failed half way.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root down
need_ours down

if [ ! -d "$run" ] && ! made_by_us; then
  say "not up: nothing to do"
  exit 0
fi

say "stopping the agent"
stop coracle-agent
if [ -f "$run/agent.yaml" ] && [ -x "$bin/coracle-agent" ]; then
  say "removing this node's containers, namespaces, mounts and links"
  claim # after a reboot the folder of the sockets is gone
  ensure_containerd
  "$bin/coracle-agent" reset --yes --config "$run/agent.yaml" ||
    fail "the node could not be cleaned; run/ is kept so that 'make down' can be run again" "the lines above say what is left"
fi
for s in coracle-log-writer coracle-controlplane coracle-registry; do
  say "stopping $s"
  stop "$s"
done

if [ -f "$run/containerd.toml" ]; then
  say "stopping coracle-containerd"
  stop coracle-containerd
elif [ -n "${containerd_socket:-}" ]; then
  say "removing the images from the machine's containerd"
  ctr_run images ls -q | xargs -r ctr --address "$containerd_socket" --namespace "$containerd_namespace" images rm --sync >/dev/null
  ctr_run namespaces rm "$containerd_namespace" >/dev/null
fi
if [ -f "$run/containerd-started" ]; then
  say "stopping containerd, which did not run before"
  systemctl stop containerd
fi

mounted() { awk -v a="$run/" -v b="$sockets/" 'index($5, a) == 1 || index($5, b) == 1 { print $5 }' /proc/self/mountinfo; }
left=$(mounted)
# shellcheck disable=SC2086 # one line for each mount
[ -z "$left" ] || fail "these are still mounted, so nothing was deleted:" $left
rm -rf "$run"
! made_by_us || rm -rf "$sockets"
say "down: everything that 'make up' made is gone"
