#!/usr/bin/env bash
# Makes the Python clients that the tests of the Celery front door use, once:
# build/python/debian has the Celery of the operating system, build/python/newest
# the newest release of Celery and Flower, and what a platform is made of. With
# --required a machine that cannot have them is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
root=build/python

fail() {
	echo "$*" >&2
	[ "$required" = --required ] && exit 1
	exit 3
}
required=${1:-}

# make NAME CHECK OPTIONS PACKAGES…: a virtual environment in which CHECK can be
# imported. It gets its name only when it is complete.
make() {
	local name=$1 check=$2 options=$3
	shift 3
	if [ -x "$root/$name/bin/python" ] && "$root/$name/bin/python" -c "import $check" 2>/dev/null; then return; fi
	echo "making $root/$name" >&2
	rm -rf "${root:?}/$name"
	mkdir -p "$root"
	# shellcheck disable=SC2086
	/usr/bin/python3 -m venv $options "$root/$name" || fail "no Python with venv: run scripts/services.sh"
	if [ $# -gt 0 ] && ! "$root/$name/bin/python" -m pip install -q --no-compile "$@"; then
		rm -rf "${root:?}/$name"
		fail "could not install $*"
	fi
	"$root/$name/bin/python" -c "import $check" || fail "$root/$name cannot import $check: run scripts/services.sh"
}

make debian celery,redis '--system-site-packages --without-pip'
make newest celery,redis,flower,fastapi,sqlalchemy,uvicorn,psycopg2 '' 'celery[redis]' flower fastapi sqlalchemy uvicorn psycopg2-binary
