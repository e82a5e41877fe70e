#!/usr/bin/env bash
# Generates the Go code of the wire contract with the plugins pinned in go.mod.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
go build -o "$tools/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH="$tools:$PATH" protoc --go_out=. --go_opt=module=coracle --go-grpc_out=. --go-grpc_opt=module=coracle proto/node/v1/node.proto
# The compiler's own version differs between machines and says nothing of the contract.
sed -i -E '/^\/\/ (- )?\s*protoc +v/d' proto/node/v1/*.pb.go
