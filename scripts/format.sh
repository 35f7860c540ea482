#!/usr/bin/env bash
# Fails when a Go file is not gofmt's.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$bad" ]; then
	printf 'not formatted (run gofmt -w):\n%s\n' "$bad" >&2
	exit 1
fi
