#!/usr/bin/env bash
# All tests: unit everywhere, and integration with the real parts where this is root.
set -euo pipefail
cd "$(dirname "$0")/.."
# A package that hangs ends with the stacks of all its goroutines. The slowest takes one minute, and two or three where the
# machine is busy with other things; each wait within it ends after a minute and a half.
unit() { go test -timeout 8m $(go list ./... | grep -v /integration); }
if [ "$(id -u)" -ne 0 ]; then
  unit
  echo "test: not root, so the integration tests (real containerd, CNI, etcd, registry and kubectl) were skipped; 'sudo make test' runs them"
  exit 0
fi
make --no-print-directory packages build bin/coracle-demo
unit
# Ratios of time need a machine that does nothing else: `make budget` holds those.
go test -count=1 -timeout 40m -skip '^TestBudgetSpeed$' ./integration
