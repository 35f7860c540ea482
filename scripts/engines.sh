#!/usr/bin/env bash
# Makes sure that Quantum ESPRESSO, LAMMPS and Open MPI are installed, about
# 100 MB, as install.sh does it. With --required a machine that cannot have them
# is an error.
set -euo pipefail

packages=()
command -v pw.x   >/dev/null || packages+=(quantum-espresso)
[ -d /usr/share/espresso/pseudo ] || packages+=(quantum-espresso-data)
command -v lmp    >/dev/null || packages+=(lammps)
[ -d /usr/share/lammps/potentials ] || packages+=(lammps-data)
command -v mpirun >/dev/null || packages+=(openmpi-bin)
[ ${#packages[@]} -eq 0 ] || exec "$(dirname "$0")/install.sh" "$@" "${packages[@]}"
