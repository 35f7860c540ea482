#!/usr/bin/env bash
# Runs silicon on Quantum ESPRESSO and aluminium on LAMMPS at the same time through
# one node, with live progress, and prints both results beside reference values.
# Without the engines it runs the mock engine instead.
set -euo pipefail
cd "$(dirname "$0")/.."

data=build/demo
rm -rf "$data"
mkdir -p "$data"
nanoos=bin/nanoos

"$nanoos" up --data "$data" --listen 127.0.0.1:0 2>"$data.log" &
node=$!
stop() {
	kill "$node" 2>/dev/null || true
	wait "$node" 2>/dev/null || true
}
trap stop EXIT
for _ in $(seq 100); do
	[ -f "$data/server.json" ] && break
	kill -0 "$node" 2>/dev/null || { cat "$data.log" >&2; exit 1; }
	sleep 0.1
done
NANOOS_URL=$(sed 's/.*"url":"\([^"]*\)".*/\1/' "$data/server.json")
export NANOOS_URL
echo "A node is up at $NANOOS_URL"

if ! command -v pw.x >/dev/null || ! command -v lmp >/dev/null; then
	echo "Quantum ESPRESSO or LAMMPS is not here, so the mock engine runs instead."
	"$nanoos" run examples/mock/dummy.yaml
	exit
fi

silicon=$("$nanoos" submit examples/silicon/scf.yaml -o id 2>/dev/null)
aluminium=$("$nanoos" submit examples/aluminium/npt.yaml -o id 2>/dev/null)
echo "Silicon (Quantum ESPRESSO) and aluminium (LAMMPS) run at the same time:"
"$nanoos" wait "$silicon" "$aluminium"

# value JOB KEY prints one number of a result.
value() { "$nanoos" get "$1" -o json | sed -n "s/^ *\"$2\": *\([-0-9.eE+]*\).*/\1/p" | head -1; }
row() { printf '  %-28s %14.4f %14s  %s\n' "$@"; }

echo
printf '  %-28s %14s %14s\n' "SILICON (LDA)" "NANOOS" "REFERENCE"
row "total energy, eV" "$(value "$silicon" energy_eV)" "-215.3869" "the same settings, pw.x by hand"
row "band gap, eV" "$(value "$silicon" band_gap_eV)" "0.6050" "the same; experiment 1.17: LDA gaps are too small"
row "pressure, GPa" "$(value "$silicon" pressure_GPa)" "-0.3783" "the same"
echo
printf '  %-28s %14s %14s\n' "ALUMINIUM (EAM, 300 K)" "NANOOS" "REFERENCE"
row "temperature at the end, K" "$(value "$aluminium" temperature_K)" "292.9079" "the same settings, lmp by hand; the thermostat says 300"
row "volume at the end, A^3" "$(value "$aluminium" volume_A3)" "8708.8899" "the same; experiment 8302: this potential is soft"
row "potential energy, eV/atom" "$(awk "BEGIN {print $(value "$aluminium" potential_energy_eV) / 500}")" "-3.5369" "the same; cohesive energy 3.58, less the heat"
echo
cat <<TEXT
More:
  bin/nanoos run examples/silicon/relax.yaml     a relaxation
  bin/nanoos up                                  a node of your own; then: bin/nanoos submit, ls, watch, logs -f, explain
  bin/nanoos parse DIR                           read a run made anywhere
  docs/quickstart.md                             the rest
TEXT
