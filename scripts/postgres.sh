#!/usr/bin/env bash
# A private PostgreSQL for trying things out and for measurements: durable, on
# loopback, in a directory of its own.
#
#   scripts/postgres.sh start DIR    prints the URL; starts it again with its data
#   scripts/postgres.sh stop DIR
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

die() { echo "postgres.sh: $*" >&2; exit 1; }

[ $# = 2 ] || die "use: postgres.sh start|stop DIR"
dir=$(realpath -m "$2")
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || bin=$(dirname "$(command -v initdb || die "PostgreSQL is not installed: scripts/services.sh")")

# The server refuses to run as root.
as_owner() {
	if [ "$(id -u)" = 0 ]; then
		(cd / && exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$@")
	else
		(cd / && exec "$@")
	fi
}

# free_port prints a port below the range of outgoing connections.
free_port() {
	local port
	for _ in $(seq 100); do
		port=$((20000 + RANDOM % 10000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
	done
	die "no port is free"
}

case $1 in
start)
	mkdir -p "$dir"
	[ "$(id -u)" != 0 ] || chown postgres "$dir"
	as_owner test -x "$dir" || die "the user postgres cannot enter $dir"
	if [ ! -s "$dir/data/PG_VERSION" ]; then
		as_owner "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --data-checksums >"$dir/initdb.log"
		free_port >"$dir/port"
	fi
	port=$(cat "$dir/port")
	as_owner "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -s \
		-o "-p $port -k $dir -c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=512MB -c max_wal_size=4GB" start </dev/null >&2 ||
		{ tail -5 "$dir/server.log" >&2; die "PostgreSQL did not start"; }
	echo "postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
	;;
stop)
	as_owner "$bin/pg_ctl" -D "$dir/data" -m fast -w -s stop
	;;
*) die "unknown command $1" ;;
esac
