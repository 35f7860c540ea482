package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/job"
)

// lattice returns the structure in the form of a job, nil for none.
func (d document) lattice(f *findings) json.RawMessage {
	if d.structure == nil {
		if ref := d.job.text("structure_id"); ref != "" {
			f.add("structure", "is gone", "there is no structure "+ref, "")
		}
		return nil
	}
	var s *crystal.Structure
	text := d.structure.text("raw_text")
	inner := strings.EqualFold(d.structure.text("format"), "internal")
	switch {
	case text != "" && !inner:
		// The text as it is: leading blanks count in some formats.
		var whole string
		_ = json.Unmarshal(d.structure["raw_text"], &whole) // it is a text
		s = readFile(whole, d.structure.text("format"), f)
	case d.structure.given("atoms"):
		s = d.structure.sites(f)
	case text != "":
		s = readFile(text, "json", f)
	default:
		f.add("structure", "has neither text nor atoms", "", "")
	}
	if s == nil || len(*f) > 0 {
		return nil
	}
	raw, err := json.Marshal(s)
	if err != nil {
		f.add("structure", "cannot be written as JSON", err.Error(), "")
	}
	return raw
}

// readFile reads the text of a structure file.
func readFile(text, format string, f *findings) *crystal.Structure {
	s, _, err := crystal.Read("", []byte(text), format)
	if e, ok := errors.AsType[*crystal.ParseError](err); ok {
		for _, p := range e.Problems {
			problem := job.Problem{Field: "structure", Message: p.Message, Fix: p.Fix}
			if p.Line > 0 {
				problem.File, problem.Field = "raw_text", ""
				problem.Line, problem.Column = p.Line, p.Column
			} else if p.Field != "" {
				problem.Field += "." + p.Field
			}
			*f = append(*f, problem)
		}
		return nil
	}
	if err != nil {
		f.add("structure", "cannot be read", err.Error(), "")
		return nil
	}
	return s
}

// sites reads the platform's own form: a lattice, and atoms in fractions of it.
func (r row) sites(f *findings) *crystal.Structure {
	s := &crystal.Structure{Lattice: r.vectors(f)}
	var atoms []map[string]json.RawMessage
	if err := json.Unmarshal(r.unwrapped("atoms"), &atoms); err != nil {
		f.add("structure.atoms", "is no list of atoms", err.Error(), `write [{"species": "Si", "position": [0, 0, 0]}, …]`)
		return nil
	}
	cartesian := 0
	for i, atom := range atoms {
		field := fmt.Sprintf("structure.atoms[%d]", i)
		var species string
		if raw := first(atom, "species", "element", "symbol"); json.Unmarshal(raw, &species) != nil {
			f.add(field+".species", "is no symbol of an element", shorten(string(raw), 80), "")
		}
		var v crystal.Vector
		raw := first(atom, "position", "frac_coords", "fractional", "coords")
		if raw == nil {
			if raw = first(atom, "cartesian", "cart_coords", "xyz"); raw != nil {
				cartesian++
			}
		}
		if !vector(raw, &v) {
			f.add(field+".position", "is not three numbers", shorten(string(raw), 80), "")
		}
		s.Species, s.Positions = append(s.Species, species), append(s.Positions, v)
	}
	if cartesian > 0 && cartesian < len(atoms) {
		f.add("structure.atoms", "are partly in fractions of the lattice and partly in Å", "", "give them all in one way")
	}
	s.Cartesian = cartesian > 0
	if len(*f) > 0 {
		return nil
	}
	for _, p := range s.Validate() {
		f.add(strings.TrimSuffix("structure."+p.Field, "."), p.Message, "", p.Fix)
	}
	return s
}

// unwrapped is a column of JSON; some keep it as a text.
func (r row) unwrapped(name string) json.RawMessage {
	if inner := r.text(name); inner != "" {
		return json.RawMessage(inner)
	}
	return r[name]
}

// vectors reads the lattice, from the column that says it best.
func (r row) vectors(f *findings) *crystal.Matrix {
	var m crystal.Matrix
	if r.given("lattice_vectors") {
		if !matrix(r.unwrapped("lattice_vectors"), &m) {
			f.add("structure.lattice_vectors", "is not three vectors of three numbers", "", "")
			return nil
		}
		return &m
	}
	if r.given("lattice") {
		return latticeOf(r.unwrapped("lattice"), f)
	}
	if o := (row{}); r.given("a") && r.given("alpha") {
		for _, name := range cellNames {
			o[name] = r[name]
		}
		return latticeFromCell(o, f)
	}
	f.add("structure.lattice", "is missing", "the atoms are in fractions of it", "")
	return nil
}

// latticeOf reads vectors in a list, vectors under a name, or lengths and angles.
func latticeOf(raw json.RawMessage, f *findings) *crystal.Matrix {
	var m crystal.Matrix
	if matrix(raw, &m) {
		return &m
	}
	o := row{}
	if err := json.Unmarshal(raw, &o); err != nil {
		f.add("structure.lattice", "is neither vectors nor lengths and angles", "", "")
		return nil
	}
	for _, name := range []string{"vectors", "matrix", "lattice_vectors"} {
		if inner := o[name]; inner != nil {
			if !matrix(inner, &m) {
				f.add("structure.lattice."+name, "is not three vectors of three numbers", "", "")
				return nil
			}
			return &m
		}
	}
	if vector(o["a"], &m[0]) && vector(o["b"], &m[1]) && vector(o["c"], &m[2]) {
		return &m
	}
	return latticeFromCell(o, f)
}

// cellNames are the lengths in Å and the angles in degrees.
var cellNames = []string{"a", "b", "c", "alpha", "beta", "gamma"}

func latticeFromCell(o row, f *findings) *crystal.Matrix {
	var cell [6]float64
	bad := false
	for i, name := range cellNames {
		x, ok := number(plain(o[name]))
		if cell[i] = x; !ok {
			f.add("structure.lattice."+name, "is not a number", shorten(string(o[name]), 80), "")
			bad = true
		}
	}
	if bad {
		return nil
	}
	m, err := crystal.LatticeFromParameters(cell[0], cell[1], cell[2], cell[3], cell[4], cell[5])
	if err != nil {
		f.add("structure.lattice", "is no cell", err.Error(), "")
		return nil
	}
	return &m
}

// first is the value of the first name that an atom has, in any case.
func first(atom map[string]json.RawMessage, names ...string) json.RawMessage {
	for _, name := range names {
		for _, key := range slices.Sorted(maps.Keys(atom)) {
			if strings.EqualFold(key, name) {
				return atom[key]
			}
		}
	}
	return nil
}

func vector(raw json.RawMessage, into *crystal.Vector) bool {
	var list []float64
	if json.Unmarshal(raw, &list) != nil || len(list) != 3 || bytes.Contains(raw, []byte("null")) {
		return false
	}
	*into = crystal.Vector(list)
	return true
}

func matrix(raw json.RawMessage, into *crystal.Matrix) bool {
	var rows []json.RawMessage
	if json.Unmarshal(raw, &rows) != nil || len(rows) != 3 {
		return false
	}
	for i := range rows {
		if !vector(rows[i], &into[i]) {
			return false
		}
	}
	return true
}
