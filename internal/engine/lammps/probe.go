package lammps

import (
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
)

var _ engine.Prober = (*LAMMPS)(nil)

// ProbeArgs implements engine.Prober.
func (l *LAMMPS) ProbeArgs() []string { return []string{"-h"} }

// ReadProbe reads the version and the lists of styles of "lmp -h": a heading
// "* Pair styles:" makes "pair_style eam/alloy" of its words.
func (l *LAMMPS) ReadProbe(output []byte) (version string, styles map[string]bool) {
	kind := ""
	for line := range strings.Lines(strings.ToValidUTF8(string(output[:min(len(output), 1<<20)]), "\uFFFD")) {
		line = strings.TrimSpace(line)
		if name, v, ok := strings.Cut(line, "Simulator - "); ok && version == "" && strings.HasPrefix(name, "Large-scale") {
			version = v
		}
		if heading, ok := strings.CutPrefix(line, "* "); ok {
			kind = styleKind(heading)
			continue
		}
		if kind == "" {
			continue
		}
		for _, name := range strings.Fields(line) {
			if styles == nil {
				styles = make(map[string]bool)
			}
			styles[kind+name] = true
		}
	}
	return version, styles
}

// styleKind turns a heading into the command that takes such a style.
func styleKind(heading string) string {
	kind, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(heading, ":")), " styles")
	if !ok {
		return ""
	}
	switch kind {
	case "atom", "pair", "bond", "angle", "dihedral", "improper", "kspace":
		return kind + "_style "
	case "minimize":
		return "min_style "
	case "integrate":
		return "run_style "
	default:
		return kind + " " // fix, compute, region, dump, command
	}
}
