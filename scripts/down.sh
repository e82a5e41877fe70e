#!/usr/bin/env bash
# Stops what `make up` started and removes what it made: containers, shims, namespaces, mounts, links, firewall
# rules and run/. Nothing else. Safe to run twice, and after an up that failed half way.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root down

if [ ! -d "$run" ] && [ ! -d "$sockets" ]; then
  say "not up: nothing to do"
  exit 0
fi

say "stopping the agent"
stop coracle-agent
if [ -f "$run/agent.yaml" ] && [ -x "$bin/coracle-agent" ]; then
  say "removing this node's containers, namespaces, mounts and links"
  "$bin/coracle-agent" reset --yes --config "$run/agent.yaml" ||
    fail "the node could not be cleaned; run/ is kept so that 'make down' can be run again" "the lines above say what is left"
fi
for s in coracle-log-writer coracle-controlplane coracle-registry containerd; do
  [ -f "$run/$s.pid" ] || has_systemd || continue
  # A containerd that ran before us is not ours to stop.
  [ "$s" != containerd ] || [ -f "$run/containerd.toml" ] || continue
  say "stopping $s"
  stop "$s"
done
if left=$(grep -F " $run/" /proc/self/mountinfo | awk '{print $5}'; grep -F " $sockets/" /proc/self/mountinfo | awk '{print $5}') && [ -n "$left" ]; then
  fail "these are still mounted, so nothing was deleted:" $left
fi
rm -rf "$run" "$sockets"
say "down: everything that 'make up' made is gone"
