#!/usr/bin/env bash
# What tools can check: formatting, vet, tidy modules, and that generated code is what the generators make.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
  printf 'check: not formatted (run gofmt -w on them):\n%s\n' "$unformatted" >&2
  bad=1
fi
go vet ./... || bad=1
go mod tidy -diff >/dev/null || { echo "check: go.mod or go.sum is not tidy: run 'go mod tidy'" >&2; bad=1; }

before=$(git ls-files -z | xargs -0 sha256sum 2>/dev/null | sha256sum)
make --no-print-directory generate >/dev/null
after=$(git ls-files -z | xargs -0 sha256sum 2>/dev/null | sha256sum)
if [ "$before" != "$after" ]; then
  echo "check: generated code was out of date; 'make generate' has rewritten it, see git diff" >&2
  bad=1
fi
exit $bad
