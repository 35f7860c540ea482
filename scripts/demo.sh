#!/usr/bin/env bash
# Runs silicon on Quantum ESPRESSO and aluminium on LAMMPS at the same time through
# one embedded node, with live progress, and prints both results beside reference
# values. Without the engines it runs the mock engine instead.
set -euo pipefail
cd "$(dirname "$0")/.."

data=$(mktemp -d "${TMPDIR:-/tmp}/nanoos-demo.XXXXXX")
exec bin/nanoos demo --data "$data"
