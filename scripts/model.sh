#!/bin/bash
# Check the model of the protocol (docs/model): everything holds for the guard that
# nanoos has, and every broken variant is found out. Needs spin and gcc.
set -euo pipefail
cd "$(dirname "$0")/../docs/model"
for tool in spin gcc; do
	command -v "$tool" >/dev/null || { echo "$tool is not installed: apt-get install -y --no-install-recommends spin gcc libc6-dev" >&2; exit 3; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# row VARIANT PROPERTY holds|fails OPTION...: one exhaustive search.
row() {
	local variant=$1 property=$2 expected=$3 got states began=$SECONDS
	shift 3
	local dir="$work/$RANDOM$RANDOM"
	mkdir "$dir"
	(cd "$dir" && spin -a "$@" "$OLDPWD/lease.pml" >spin.out 2>&1 &&
		gcc -O1 -w -DCOLLAPSE -DNFAIR=3 -DMEMLIM=4096 -o pan pan.c >gcc.out 2>&1) ||
		{ cat "$dir"/*.out; exit 1; }
	local fair=()
	[ "$property" = ends ] && fair=(-f)
	(cd "$dir" && ./pan -a "${fair[@]}" -m1000000 -N "$property" >pan.out 2>&1) || true
	case $(grep -o 'errors: [0-9]*' "$dir/pan.out" || echo none) in
	'errors: 0') got=holds ;;
	none) got=broken ;;
	*) got=fails ;;
	esac
	# A search that was cut short proves nothing.
	if [ $got = holds ] && grep -q -e 'max search depth too small' -e 'out of memory' -e 'Search not completed' "$dir/pan.out"; then
		got=unfinished
	fi
	states=$(awk '/states, stored/ {print $1; exit}' "$dir/pan.out")
	local verdict=ok
	[ $got = "$expected" ] || { verdict=WRONG; failed=1; }
	printf '%-34s %-9s %-10s %9s states %4d s  %s\n' "$variant" "$property" "$got" "${states:-?}" $((SECONDS - began)) $verdict
}

row 'fence (what nanoos does)' safe holds -DGUARD=2
row 'fence (what nanoos does)' ends holds -DGUARD=2 -DFEW
row 'fence and worker' safe holds -DGUARD=3 -DFEW
row 'no guard' agree fails -DGUARD=0
row 'worker alone' agree fails -DGUARD=1
row 'adoption keeps the fence' living fails -DKEEPFENCE
row 'start without the lock' onestart fails -DRELAUNCH
row 'files shown before the report' agree fails -DEARLY
exit $failed
