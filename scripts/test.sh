#!/usr/bin/env bash
# All tests: unit everywhere, and integration with the real parts where this is root.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
  go test $(go list ./... | grep -v /integration)
  echo "test: not root, so the integration tests (real containerd, CNI, etcd, registry and kubectl) were skipped; 'sudo make test' runs them"
  exit 0
fi
make --no-print-directory packages build bin/coracle-demo
go test $(go list ./... | grep -v /integration)
# Ratios of time need a machine that does nothing else: `make budget` holds those.
go test -count=1 -timeout 40m -skip '^TestBudgetSpeed$' ./integration
