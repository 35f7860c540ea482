#!/usr/bin/env bash
# Makes sure that what the tests of a cluster need is installed: PostgreSQL,
# network namespaces, packet filter rules, failing system calls, a clock that can
# be moved, a model checker and a C compiler for it, Redis, and Python with Celery.
# As install.sh does it; with --required a machine that cannot have them is an
# error. No service is started: every test starts a server of its own.
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
[ ${#packages[@]} -eq 0 ] || exec "$(dirname "$0")/install.sh" "$@" "${packages[@]}"
