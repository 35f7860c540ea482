package lammps

import (
	"bufio"
	"bytes"
	"regexp"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
)

var _ engine.Prober = (*LAMMPS)(nil)

// ProbeArgs make lmp list its packages and styles.
func (*LAMMPS) ProbeArgs() []string { return []string{"-h"} }

var probedVersion = regexp.MustCompile(`(?m)^Large-scale Atomic/Molecular Massively Parallel Simulator - (.+?)\s*$`)

// probedKinds maps the headings of the list to the commands that take such a
// style.
var probedKinds = map[string]string{
	"atom": "atom_style", "integrate": "run_style", "minimize": "min_style", "pair": "pair_style", "bond": "bond_style",
	"angle": "angle_style", "dihedral": "dihedral_style", "improper": "improper_style", "kspace": "kspace_style",
	"fix": "fix", "compute": "compute", "region": "region", "dump": "dump", "command": "command",
}

var probedHeading = regexp.MustCompile(`^\* (\w+) styles`)

// ReadProbe implements engine.Prober. Styles are written "pair_style eam/alloy".
func (*LAMMPS) ReadProbe(output []byte) (version string, styles map[string]bool) {
	if m := probedVersion.FindSubmatch(output); m != nil {
		version = string(m[1])
	}
	kind := ""
	sc := bufio.NewScanner(bytes.NewReader(output))
	for sc.Scan() {
		line := sc.Text()
		if m := probedHeading.FindStringSubmatch(line); m != nil {
			kind = probedKinds[strings.ToLower(m[1])]
			continue
		}
		if kind == "" {
			continue
		}
		if styles == nil {
			styles = map[string]bool{}
		}
		for _, s := range strings.Fields(line) {
			styles[kind+" "+s] = true
		}
	}
	return version, styles
}
