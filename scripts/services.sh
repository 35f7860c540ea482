#!/usr/bin/env bash
# Makes sure that what the tests of a cluster need is installed: PostgreSQL,
# network namespaces, packet filter rules, failing system calls, a clock that can
# be moved, a model checker and a C compiler for it, Redis, and Python with Celery.
# By apt when we are root or may sudo; otherwise says exactly what is missing. With --required a machine that cannot have them is an error. No
# service is started: every test starts a server of its own.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

packages=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || packages+=(postgresql)
command -v psql     >/dev/null || packages+=(postgresql-client)
command -v ip       >/dev/null || packages+=(iproute2)
command -v iptables >/dev/null || packages+=(iptables)
command -v strace   >/dev/null || packages+=(strace)
compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || packages+=(libfaketime)
command -v spin     >/dev/null || packages+=(spin)
command -v gcc      >/dev/null || packages+=(gcc libc6-dev)
command -v redis-server >/dev/null || packages+=(redis-server)
/usr/bin/python3 -c 'import celery, kombu' 2>/dev/null || packages+=(python3-celery)
/usr/bin/python3 -c 'import redis' 2>/dev/null || packages+=(python3-redis)
/usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
[ ${#packages[@]} -eq 0 ] && exit 0

install="apt-get install -y --no-install-recommends ${packages[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n); fi
fi
if ! command -v apt-get >/dev/null || { [ "$(id -u)" -ne 0 ] && [ ${#as_root[@]} -eq 0 ]; }; then
	echo "missing: ${packages[*]}" >&2
	echo "  install them with: sudo $install" >&2
	[ "${1:-}" = --required ] && exit 1
	exit 3
fi

echo "installing ${packages[*]}" >&2
# Without this the package makes a cluster of its own and starts it.
if [[ " ${packages[*]} " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
	"${as_root[@]}" mkdir -p /etc/postgresql-common
	echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Without this the packages start their services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$log"; "${as_root[@]}" rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
	"${as_root[@]}" chmod 755 "$policy"
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }
if ! { apt update && apt install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
	tail -20 "$log" >&2
	echo "could not install ${packages[*]}; try: sudo $install" >&2
	exit 1
fi
