#!/usr/bin/env bash
# Measures on SQLite and, where it is installed, on a private PostgreSQL; then
# the supervisor beside the smallest one there can be. BENCH holds more flags of
# nanoos bench.
set -euo pipefail
cd "$(dirname "$0")/.."

data=$(mktemp -d)
chmod 711 "$data" # the user of PostgreSQL passes through
url=
stop() {
	[ -z "$url" ] || scripts/postgres.sh stop "$data/pg" || true
	rm -rf "$data"
}
trap stop EXIT
url=$(scripts/postgres.sh start "$data/pg") || echo "PostgreSQL is not here: measuring SQLite alone" >&2
# shellcheck disable=SC2086
bin/nanoos bench --data "$data" ${url:+--database "$url"} ${BENCH:-}
echo "The supervisor beside os/exec and the smallest supervisor, ratios of medians:" >&2
go test -tags carried -run '^$' -bench '^BenchmarkTrue$' ./internal/executor >&2
