#!/usr/bin/env bash
# Installs packages by apt when we are root or may sudo; otherwise says exactly
# what is missing. With --required a machine that cannot have them is an error.
# No service is started.
#
#   scripts/install.sh [--required] PACKAGE…
set -euo pipefail

unable=3
[ "${1:-}" != --required ] || { unable=1; shift; }

install="apt-get install -y --no-install-recommends $*"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n); fi
fi
if ! command -v apt-get >/dev/null || { [ "$(id -u)" -ne 0 ] && [ ${#as_root[@]} -eq 0 ]; }; then
	echo "missing: $*" >&2
	echo "  install them with: sudo $install" >&2
	exit "$unable"
fi

echo "installing $*" >&2
# Without this the package makes a cluster of its own and starts it.
if [[ " $* " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
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
if ! { apt update && apt install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
	tail -20 "$log" >&2
	echo "could not install $*; try: sudo $install" >&2
	exit 1
fi
