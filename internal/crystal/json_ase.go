package crystal

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// ReadASE reads the JSON form of ASE: the atoms of a database, of which the
// first are read, or one dictionary of atoms. Of the constraints it keeps
// FixAtoms and FixCartesian; charges and momenta are not read.
func ReadASE(data []byte) (s *Structure, warnings []string, err error) {
	j, err := newJSONReader(data)
	if err != nil {
		return nil, nil, err
	}
	r := &aseReader{jsonReader: j}
	if err := r.read(); err != nil {
		return nil, nil, err
	}
	s, err = r.finish()
	return s, r.warnings, err
}

type aseReader struct {
	*jsonReader
	warnings    []string
	rows        int
	cell        []float64
	pbc         []float64
	constraints []aseConstraint
	moments     []float64
}

type aseConstraint struct {
	name                 string
	indices, atoms, mask []float64
}

func (r *aseReader) read() error {
	err := r.whole(func(name string) error {
		t, err := r.token()
		if err != nil {
			return err
		}
		if _, err := strconv.Atoi(name); err != nil {
			return r.field(name, t, fieldPath(name))
		}
		if r.rows++; r.rows > 1 {
			return r.skip(t)
		}
		return r.object(t, fieldPath(name), r.field)
	})
	if err != nil {
		return err
	}
	if r.rows > 1 {
		r.warnings = append(r.warnings, fmt.Sprintf("the file has %d structures: the first is read", r.rows))
	}
	if r.s.Species == nil {
		r.ps.field("numbers", "the field is missing")
	}
	if r.s.Positions == nil {
		r.ps.field("positions", "the field is missing")
	}
	if !r.ps.any() {
		r.settle()
	}
	return nil
}

func (r *aseReader) field(name string, t json.Token, at jsonPath) (err error) {
	switch name {
	case "cell":
		r.cell, err = r.array(t, at)
	case "pbc":
		r.pbc, err = r.array(t, at)
	case "initial_magmoms":
		r.moments, err = r.array(t, at)
	case "numbers":
		var list []float64
		if list, err = r.array(t, at); err == nil {
			r.species(list, at)
		}
	case "positions":
		var list []float64
		if list, err = r.array(t, at); err == nil {
			r.positions(list, at)
		}
	case "constraints":
		if t == nil {
			return nil
		}
		return r.list(t, at, r.constraint)
	case "momenta":
		r.warnings = append(r.warnings, "the momenta are not read")
		return r.skip(t)
	default:
		return r.skip(t)
	}
	return err
}

// maxASEDepth is how deep the lists of an array nest: an array of NumPy is an
// object with a list of three, and a cell holds one.
const maxASEDepth = 5

// array reads numbers from nested lists, or from an array of NumPy as ASE
// writes it: {"__ndarray__": [shape, type, values]}. Logical values are 0 and 1.
func (r *aseReader) array(t json.Token, at jsonPath) (out []float64, err error) {
	return out, r.numbers(t, at, maxASEDepth, &out)
}

func (r *aseReader) numbers(t json.Token, at jsonPath, depth int, to *[]float64) error {
	switch t := t.(type) {
	case nil:
		return nil
	case bool:
		*to = append(*to, float64(boolInt(t)))
		return nil
	case json.Number:
		x, err := r.number(t, at)
		*to = append(*to, x)
		return err
	}
	switch {
	case depth == 0:
		r.wrong(at, "the lists nest too deep")
		return r.skip(t)
	case t == json.Delim('['):
		return r.entries(at, depth, to)
	case t == json.Delim('{'):
		return r.fields(func(name string) error {
			t, err := r.token()
			switch {
			case err != nil:
				return err
			case name == "__ndarray__":
				return r.ndarray(t, at, depth-1, to)
			case name == "array":
				return r.numbers(t, at, depth-1, to)
			}
			return r.skip(t)
		})
	}
	r.wrong(at, "numbers are needed, not %s", kind(t))
	return nil
}

func (r *aseReader) entries(at jsonPath, depth int, to *[]float64) error {
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		if len(*to) >= 3*MaxSites {
			r.wrong(at, "the list has more than %d numbers", 3*MaxSites)
			return r.ps.err()
		}
		if err := r.numbers(t, at, depth-1, to); err != nil {
			return err
		}
		if r.ps.omitted > 0 {
			return r.ps.err()
		}
	}
	_, err := r.token()
	return err
}

// ndarray reads the values, the third of the list.
func (r *aseReader) ndarray(t json.Token, at jsonPath, depth int, to *[]float64) error {
	n := 0
	return r.list(t, at, func(t json.Token, at jsonPath) error {
		if n++; n == 3 {
			return r.numbers(t, at, depth, to)
		}
		return r.skip(t)
	})
}

func (r *aseReader) species(list []float64, at jsonPath) {
	r.s.Species = make([]string, 0, len(list))
	for i, z := range list {
		e, ok := ElementOfZ(int(min(max(z, 0), 1000)))
		if !ok || z != math.Trunc(z) {
			r.wrong(at.entry(i), "%v is not the number of an element", z)
		}
		r.s.Species = append(r.s.Species, e.Symbol)
	}
}

func (r *aseReader) positions(list []float64, at jsonPath) {
	if len(list)%3 != 0 {
		r.wrong(at, "%d numbers are no positions: each has three", len(list))
		return
	}
	r.s.Positions = make([]Vector, len(list)/3)
	for i := range r.s.Positions {
		r.s.Positions[i] = Vector(list[3*i:])
	}
}

// constraint reads the name of a constraint and the sites it holds.
func (r *aseReader) constraint(t json.Token, at jsonPath) error {
	var c aseConstraint
	err := r.object(t, at, func(name string, t json.Token, at jsonPath) (err error) {
		switch name {
		case "name":
			c.name, err = r.word(t, at)
			return err
		case "kwargs":
			return r.object(t, at, func(name string, t json.Token, at jsonPath) (err error) {
				switch name {
				case "indices":
					c.indices, err = r.array(t, at)
				case "a":
					c.atoms, err = r.array(t, at)
				case "mask":
					c.mask, err = r.array(t, at)
				default:
					err = r.skip(t)
				}
				return err
			})
		}
		return r.skip(t)
	})
	if len(r.constraints) < MaxProblems {
		r.constraints = append(r.constraints, c)
	}
	return err
}

// settle puts together what the fields say of one another.
func (r *aseReader) settle() {
	s, n := r.s, len(r.s.Species)
	switch len(r.cell) {
	case 0:
	case 3:
		s.Lattice = &Matrix{{r.cell[0], 0, 0}, {0, r.cell[1], 0}, {0, 0, r.cell[2]}}
	case 9:
		s.Lattice = &Matrix{Vector(r.cell[0:]), Vector(r.cell[3:]), Vector(r.cell[6:])}
	default:
		r.ps.field("cell", "%d numbers are no cell: it has nine, or three lengths", len(r.cell))
	}
	if s.Lattice != nil && *s.Lattice == (Matrix{}) {
		s.Lattice = nil // ASE writes zeros for a molecule in free space
	}
	s.Cartesian = s.Lattice != nil
	r.periodic()
	switch len(r.moments) {
	case 0, 3 * n:
		if len(r.moments) > 0 && n > 0 {
			r.warnings = append(r.warnings, "the magnetic moments are vectors: they are not read")
		}
	default:
		s.Magmoms = r.moments
	}
	for _, c := range r.constraints {
		r.hold(c)
	}
}

func (r *aseReader) periodic() {
	var p [3]bool
	switch len(r.pbc) {
	case 0: // ASE takes an absent one as false
	case 1:
		p = [3]bool{r.pbc[0] != 0, r.pbc[0] != 0, r.pbc[0] != 0}
	case 3:
		p = [3]bool{r.pbc[0] != 0, r.pbc[1] != 0, r.pbc[2] != 0}
	default:
		r.ps.field("pbc", "%d values, not 3", len(r.pbc))
	}
	if whole := r.s.Lattice != nil; p != [3]bool{whole, whole, whole} {
		r.s.PBC = &p
	}
}

func (r *aseReader) hold(c aseConstraint) {
	indices, fixed := c.indices, [3]bool{true, true, true}
	switch {
	case c.name == "FixAtoms":
	case c.name == "FixCartesian" && (len(c.mask) == 0 || len(c.mask) == 3):
		indices = c.atoms
		for k, m := range c.mask {
			fixed[k] = m != 0
		}
	default:
		r.warnings = append(r.warnings, "the constraint "+short(c.name)+" is not read")
		return
	}
	for _, i := range indices {
		if i < 0 { // as Python counts
			i += float64(len(r.s.Species))
		}
		if !(i >= 0 && i < float64(len(r.s.Species))) || i != math.Trunc(i) {
			r.ps.field("constraints", "%v is not the number of an atom", i)
			return
		}
		if r.s.Fixed == nil {
			r.s.Fixed = make([][3]bool, len(r.s.Species))
		}
		for k := range fixed {
			r.s.Fixed[int(i)][k] = r.s.Fixed[int(i)][k] || fixed[k]
		}
	}
}
