package crystal

import (
	"encoding/json"
	"fmt"
)

// Write writes a valid structure in a format.
func Write(s *Structure, f Format) ([]byte, error) {
	switch f {
	case POSCAR:
		return WritePOSCAR(s)
	case POSCAR4:
		return WritePOSCAR4(s)
	case CIF:
		return WriteCIF(s)
	case XYZ:
		return WriteXYZ(s)
	case LAMMPSData:
		return WriteLAMMPSData(s)
	case XSF:
		return WriteXSF(s)
	case PWInput:
		return WritePWInput(s)
	case JSON:
		return writeJSON(s)
	case Pymatgen:
		return WritePymatgen(s)
	case ASE:
		return WriteASE(s)
	}
	return nil, fmt.Errorf("write %s: structure format %s is not known: use %s", s.Formula(), quote(string(f)), formatNames())
}

// Losses names what the structure holds and the format cannot.
func (f Format) Losses(s *Structure) []string {
	keeps := f.keeps(s)
	var lost []string
	for _, part := range []struct {
		held, kept bool
		name       string
	}{
		{s.PBC != nil && s.Lattice != nil && *s.PBC != [3]bool{true, true, true}, keeps.pbc, "the directions that do not repeat"},
		{s.Labels != nil, keeps.labels, "labels"},
		{s.Magmoms != nil, keeps.magmoms, "magnetic moments"},
		{s.Fixed != nil, keeps.fixed, "fixed coordinates"},
		{s.Velocities != nil, keeps.velocities, "velocities"},
	} {
		if part.held && !part.kept {
			lost = append(lost, part.name)
		}
	}
	return lost
}

type kept struct{ pbc, labels, magmoms, fixed, velocities bool }

// keeps says what a format has a place for beside cell, species and positions.
func (f Format) keeps(s *Structure) kept {
	switch f {
	case POSCAR, POSCAR4:
		return kept{fixed: true, velocities: true}
	case XYZ, JSON, Pymatgen:
		return kept{true, true, true, true, true}
	case LAMMPSData:
		return kept{velocities: true}
	case XSF:
		return kept{pbc: true}
	case PWInput:
		all := true
		for i, label := range s.Labels {
			all = all && pwLabel(label, s.Species[i])
		}
		return kept{labels: all, fixed: true}
	case ASE:
		return kept{pbc: true, magmoms: true, fixed: true}
	}
	return kept{}
}

func writeJSON(doc any) ([]byte, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write structure as JSON: %w", err)
	}
	return append(text, '\n'), nil
}

// pymatgenStructure is what pymatgen writes for a Structure or a Molecule.
type pymatgenStructure struct {
	Module     string           `json:"@module"`
	Class      string           `json:"@class"`
	Charge     float64          `json:"charge"`
	Lattice    *pymatgenLattice `json:"lattice,omitempty"`
	Properties struct{}         `json:"properties"`
	Sites      []pymatgenSite   `json:"sites"`
}

type pymatgenLattice struct {
	Matrix Matrix  `json:"matrix"`
	PBC    [3]bool `json:"pbc"`
	A      float64 `json:"a"`
	B      float64 `json:"b"`
	C      float64 `json:"c"`
	Alpha  float64 `json:"alpha"`
	Beta   float64 `json:"beta"`
	Gamma  float64 `json:"gamma"`
	Volume float64 `json:"volume"`
}

type pymatgenSite struct {
	Name       string             `json:"name,omitempty"` // of a Molecule's site
	Species    []pymatgenSpecies  `json:"species"`
	ABC        *Vector            `json:"abc,omitempty"`
	Properties pymatgenProperties `json:"properties"`
	Label      string             `json:"label"`
	XYZ        Vector             `json:"xyz"`
}

type pymatgenSpecies struct {
	Element string `json:"element"`
	Share   int    `json:"occu"`
}

type pymatgenProperties struct {
	Moment   *float64 `json:"magmom,omitempty"`
	Movable  *[3]bool `json:"selective_dynamics,omitempty"`
	Velocity *Vector  `json:"velocities,omitempty"`
}

// WritePymatgen writes the JSON form of a Structure of pymatgen, or of a
// Molecule when there is no lattice. Nothing is lost.
func WritePymatgen(s *Structure) ([]byte, error) {
	doc := pymatgenStructure{Module: "pymatgen.core.structure", Class: "Molecule"}
	if m := s.Lattice; m != nil {
		l := &pymatgenLattice{Matrix: *m, PBC: s.Periodic(), Volume: s.Volume()}
		l.A, l.B, l.C, l.Alpha, l.Beta, l.Gamma = m.Parameters()
		doc.Class, doc.Lattice = "Structure", l
	}
	cart, frac := s.Cart(), s.Frac()
	doc.Sites = make([]pymatgenSite, s.NAtoms())
	for i, el := range s.Species {
		site := pymatgenSite{Species: []pymatgenSpecies{{el, 1}}, Label: el, XYZ: cart[i]}
		if frac != nil {
			site.ABC = &frac[i]
		} else {
			site.Name = el
		}
		if s.Labels != nil {
			site.Label = s.Labels[i]
		}
		if s.Magmoms != nil {
			site.Properties.Moment = &s.Magmoms[i]
		}
		if s.Fixed != nil {
			f := s.Fixed[i]
			site.Properties.Movable = &[3]bool{!f[0], !f[1], !f[2]}
		}
		if s.Velocities != nil {
			site.Properties.Velocity = &s.Velocities[i]
		}
		doc.Sites[i] = site
	}
	return writeJSON(doc)
}

// aseAtoms is a row of the JSON database of ASE.
type aseAtoms struct {
	Cell        aseCell            `json:"cell"`
	PBC         aseArray           `json:"pbc"`
	Numbers     aseArray           `json:"numbers"`
	Positions   aseArray           `json:"positions"`
	Moments     *aseArray          `json:"initial_magmoms,omitempty"`
	Constraints []aseWrittenFixing `json:"constraints,omitempty"`
	// ASE asks every row for these.
	UniqueID string  `json:"unique_id"`
	CTime    float64 `json:"ctime"`
	MTime    float64 `json:"mtime"`
	User     *string `json:"user"`
}

type aseCell struct {
	Array aseArray `json:"array"`
	Type  string   `json:"__ase_objtype__"`
}

// aseArray is an array of NumPy: its shape, its type and its values.
type aseArray struct {
	Array [3]any `json:"__ndarray__"`
}

type aseWrittenFixing struct {
	Name      string `json:"name"`
	Arguments any    `json:"kwargs"`
}

// WriteASE writes the structure as the JSON database of ASE, whose only row it
// is. Labels and velocities cannot be written, and D becomes H.
func WriteASE(s *Structure) ([]byte, error) {
	n := s.NAtoms()
	cell := []float64{0, 0, 0, 0, 0, 0, 0, 0, 0}
	if s.Lattice != nil {
		for i := range cell {
			cell[i] = s.Lattice[i/3][i%3]
		}
	}
	numbers, positions := make([]int, n), make([]float64, 0, 3*n)
	for i, v := range s.Cart() {
		e, _ := ElementOf(s.Species[i])
		numbers[i] = e.Z
		positions = append(positions, v[:]...)
	}
	atoms := aseAtoms{
		Cell:        aseCell{aseArray{[3]any{[]int{3, 3}, "float64", cell}}, "cell"},
		PBC:         aseArray{[3]any{[]int{3}, "bool", s.Periodic()}},
		Numbers:     aseArray{[3]any{[]int{n}, "int64", numbers}},
		Positions:   aseArray{[3]any{[]int{n, 3}, "float64", positions}},
		Constraints: s.aseConstraints(),
		UniqueID:    s.Hash()[:32],
	}
	if s.Magmoms != nil {
		atoms.Moments = &aseArray{[3]any{[]int{n}, "float64", s.Magmoms}}
	}
	return writeJSON(map[string]any{"1": atoms, "ids": []int{1}, "nextid": 2})
}

// aseConstraints gathers the sites by which of their coordinates are fixed.
func (s *Structure) aseConstraints() []aseWrittenFixing {
	sites := map[[3]bool][]int{}
	for i, f := range s.Fixed {
		sites[f] = append(sites[f], i)
	}
	var out []aseWrittenFixing
	for pattern := range 8 {
		f := [3]bool{pattern&1 != 0, pattern&2 != 0, pattern&4 != 0}
		switch {
		case len(sites[f]) == 0 || f == [3]bool{}:
		case f == [3]bool{true, true, true}:
			out = append(out, aseWrittenFixing{"FixAtoms", map[string]any{"indices": sites[f]}})
		default:
			out = append(out, aseWrittenFixing{"FixCartesian", map[string]any{"a": sites[f], "mask": f}})
		}
	}
	return out
}
