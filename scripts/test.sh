#!/usr/bin/env bash
# The whole test, with a count of what was skipped: a skipped check is never silent.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "format"
scripts/format.sh
step "vet"
go vet ./...
step "other platforms"
make --no-print-directory cross
step "tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# Packages run one after another: many tests time real processes on a small machine.
# Nothing is taken from the cache: it does not know the binary that e2e builds.
go test -p 1 -count=1 -timeout 20m -v ./... >"$log" 2>&1 || status=$?
grep -E '^(--- FAIL|FAIL|panic:|ok  )' "$log" || true
if [ "$status" -ne 0 ]; then
	printf '\n== output of the tests that failed\n'
	awk '/^=== RUN/ {buf=""} {buf=buf $0 "\n"} /^--- FAIL/ {printf "%s", buf; buf=""} /^panic:/ {show=1} show' "$log" | tail -400
fi
step "skipped"
grep -E -A2 '^ *--- SKIP' "$log" | grep -vE '^--$' | head -60 || true
passed=$(grep -cE '^ *--- PASS' "$log" || true)
failed=$(grep -cE '^ *--- FAIL' "$log" || true)
skipped=$(grep -cE '^ *--- SKIP' "$log" || true)
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
exit "$status"
