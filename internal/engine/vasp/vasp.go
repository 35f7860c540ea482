// Package vasp speaks VASP: it writes INCAR, KPOINTS and POSCAR or checks those
// that people bring, has POTCAR put together from the user's own licensed
// library, follows the running program by its output, and reads what a run
// left, whole, cut or damaged. A run counts as a success only when its
// convergence is proven by numbers: VASP 5 says that EDIFF is reached in any
// case, and ends with status 0 after nearly all faults.
package vasp

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"io/fs"
	"path"

	"github.com/nano-os/nanoos/internal/engine"
)

// VASP is the engine.
type VASP struct{}

var _ engine.Engine = (*VASP)(nil)

// New returns the engine.
func New() *VASP { return &VASP{} }

//go:embed schema.json
var schema []byte

func (*VASP) Name() string            { return "vasp" }
func (*VASP) Title() string           { return "VASP" }
func (*VASP) Aliases() []string       { return []string{"VASP", "VASP5", "VASP6"} }
func (*VASP) Programs() []string      { return []string{"vasp_std", "vasp_gam", "vasp_ncl"} }
func (*VASP) Schema() json.RawMessage { return schema }

// Deck recognises an INCAR, by its name or by tags that only VASP has.
func (*VASP) Deck(name string, head []byte) bool {
	_, tags := readINCAR(head)
	known := 0
	for _, key := range []string{"ENCUT", "PREC", "EDIFF", "EDIFFG", "NSW", "IBRION", "ISIF", "ISMEAR", "SIGMA", "ISPIN", "NELM", "ALGO", "LREAL", "LWAVE", "LCHARG", "MAGMOM"} {
		if _, ok := tags[key]; ok {
			known++
		}
	}
	return known >= 3 && !bytes.ContainsRune(head, '<') || path.Base(name) == "INCAR" && known >= 1
}

// Recognise implements engine.Engine.
func (*VASP) Recognise(files fs.FS) float64 {
	f, err := findFiles(files)
	if err != nil {
		return 0
	}
	switch {
	case f.xml != "" && isVasprun(engine.Head(files, f.xml, headSize)):
		return 1
	case f.outcar != "" && isOUTCAR(engine.Head(files, f.outcar, headSize)):
		return 0.97
	case f.oszicar != "" && isOSZICAR(engine.Head(files, f.oszicar, headSize)):
		return 0.95
	}
	named := false
	for _, name := range f.outputs {
		head := engine.Head(files, name, headSize)
		if isOutput(head) {
			return 0.9
		}
		named = named || bytes.Contains(head, []byte("vasp"))
	}
	switch {
	case f.xml != "" || f.outcar != "" || f.oszicar != "":
		return 0.6 // empty or broken, under a name that VASP alone uses
	case f.incar != "" && f.poscar != "":
		return 0.5
	case named || f.incar != "" || f.contcar != "" || f.kpoints != "":
		return 0.2
	}
	return 0
}
