#!/usr/bin/env bash
# Makes sure that Quantum ESPRESSO, LAMMPS and Open MPI are installed: by apt when
# we are root or may sudo; otherwise says exactly what is missing. With --required
# a machine that cannot have them is an error.
set -euo pipefail

packages=()
command -v pw.x   >/dev/null || packages+=(quantum-espresso)
[ -d /usr/share/espresso/pseudo ] || packages+=(quantum-espresso-data)
command -v lmp    >/dev/null || packages+=(lammps)
[ -d /usr/share/lammps/potentials ] || packages+=(lammps-data)
command -v mpirun >/dev/null || packages+=(openmpi-bin)
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

echo "installing ${packages[*]} (about 100 MB)" >&2
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt update && apt install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
	tail -20 "$log" >&2
	echo "could not install ${packages[*]}; try: sudo $install" >&2
	exit 1
fi
