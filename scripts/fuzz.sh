#!/usr/bin/env bash
# Runs every fuzz target in the tree for the time given, one after the other: scripts/fuzz.sh 10s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' agent controlplane internal proto | while IFS=: read -r file _ func; do
  echo "fuzz: ${func#func } in $(dirname "$file")"
  go test "./$(dirname "$file")" -run '^$' -fuzz "^${func#func }\$" -fuzztime "$time" </dev/null
done
