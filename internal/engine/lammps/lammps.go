// Package lammps speaks LAMMPS: it writes input scripts and data files for
// minimisation and molecular dynamics, checks and stages scripts that people
// bring, follows the growing output, and reads what a run left behind, from any
// version and in any of the unit styles. It starts no process.
package lammps

import (
	_ "embed"
	"encoding/json"
	"io/fs"
	"path"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
)

// LAMMPS is the engine. The zero value works.
type LAMMPS struct{}

var _ engine.Engine = (*LAMMPS)(nil)

// New returns the engine.
func New() *LAMMPS { return &LAMMPS{} }

//go:embed schema.json
var schema []byte

// Name implements engine.Engine.
func (l *LAMMPS) Name() string { return "lammps" }

// Title implements engine.Engine.
func (l *LAMMPS) Title() string { return program }

// Aliases implements engine.Engine.
func (l *LAMMPS) Aliases() []string { return []string{"LAMMPS", "LMP"} }

// Programs implements engine.Engine.
func (l *LAMMPS) Programs() []string { return []string{"lmp"} }

// Schema implements engine.Engine.
func (l *LAMMPS) Schema() json.RawMessage { return schema }

// Recognise is sure of a directory with the banner of LAMMPS in a file; its
// data files and dumps alone are a hint.
func (l *LAMMPS) Recognise(files fs.FS) float64 {
	found, err := look(files)
	if err != nil {
		return 0
	}
	score := 0.0
	for _, c := range found {
		switch {
		case c.isLog():
			return 0.95
		case strings.HasPrefix(c.head, dataBanner), strings.HasPrefix(c.head, dumpBanner+"TIMESTEP"):
			score = 0.3
		}
	}
	return score
}

// Deck reports whether a file is an input script: by a name that people use for
// them, and commands that only LAMMPS has.
func (l *LAMMPS) Deck(name string, head []byte) bool {
	base := strings.ToLower(path.Base(name))
	named := strings.HasPrefix(base, "in.") || strings.HasSuffix(base, ".lmp") || strings.HasSuffix(base, ".lammps")
	if strings.HasPrefix(base, "log.") || strings.HasPrefix(string(head), banner) {
		return false
	}
	known := 0
	for _, c := range parseScript(name, head).commands {
		if hallmarks[c.name] {
			known++
		}
	}
	return known >= 3 || named && known >= 1
}

// hallmarks are commands that begin nearly every script and mean nothing to
// other programs.
var hallmarks = map[string]bool{
	"units": true, "atom_style": true, "boundary": true, "lattice": true, "read_data": true, "read_restart": true, "create_box": true, "create_atoms": true,
	"pair_style": true, "pair_coeff": true, "thermo": true, "thermo_style": true, "timestep": true, "fix": true, "minimize": true, "neighbor": true,
}
