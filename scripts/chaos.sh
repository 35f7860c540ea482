#!/usr/bin/env bash
# The long form of the chaos tests: real PostgreSQL, real processes, CHAOS_KILLS
# (1000) random kills from CHAOS_SEED, CHAOS_JOBS (10000) jobs of which none is
# lost, upgrades between this source and the one before it, and CELERY_MESSAGES
# (10000) messages of Celery programs while Redis and nanoos are killed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/services.sh --required
scripts/python.sh --required
export CHAOS_KILLS=${CHAOS_KILLS:-1000} CHAOS_JOBS=${CHAOS_JOBS:-10000} CHAOS_SEED=${CHAOS_SEED:-$RANDOM}

# The version before: the last tag, or the last commit, that can be a server.
previous() {
	git rev-parse --is-inside-work-tree >/dev/null 2>&1 || return 1
	local rev
	rev=$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null || git rev-parse --verify -q HEAD^) || return 1
	git cat-file -e "$rev:cmd/nanoos/server.go" 2>/dev/null || return 1
	echo "$rev"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if rev=$(previous); then
	mkdir "$work/source"
	git archive "$rev" | tar -x -C "$work/source"
	(cd "$work/source" && go build -ldflags "-X main.version=$rev" -o "$work/nanoos" ./cmd/nanoos)
	export CHAOS_PREVIOUS=$work/nanoos
	echo "upgrades go from and to $(git log -1 --format='%h %s' "$rev")"
else
	echo "there is no version before this one: upgrades go between two builds of this source"
fi
echo "CHAOS_SEED=$CHAOS_SEED CHAOS_KILLS=$CHAOS_KILLS CHAOS_JOBS=$CHAOS_JOBS"
go test ./e2e -count=1 -timeout 4h -v -run '^(TestChaos|TestChaosAnyOneOfFive|TestF36)'
export CELERY_LONG=1 CELERY_MESSAGES=${CELERY_MESSAGES:-10000}
go test ./e2e -count=1 -timeout 4h -v -run '^TestCelery26_|^TestF27_|^TestF29_|^TestCelery$/newest/(outage|control)$'
