#!/usr/bin/env bash
# All tests: unit everywhere, and integration with the real parts where this is root.
set -euo pipefail
cd "$(dirname "$0")/.."
# Each wait in a test ends after a minute and a half with a sentence; this is for what hangs elsewhere. The slowest package
# takes one to two minutes, and was seen to take six where the machine is busy with other things.
unit() { go test -timeout 15m $(go list ./... | grep -v /integration); }
if [ "$(id -u)" -ne 0 ]; then
  unit
  echo "test: not root, so the integration tests (real containerd, CNI, etcd, registry and kubectl) were skipped; 'sudo make test' runs them"
  exit 0
fi
make --no-print-directory packages build bin/coracle-demo
unit
# Ratios of time need a machine that does nothing else: `make budget` holds those.
go test -count=1 -timeout 40m -skip '^TestBudgetSpeed$' ./integration
