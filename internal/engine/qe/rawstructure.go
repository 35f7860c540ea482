package qe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"

	"github.com/nano-os/nanoos/internal/engine/printed"
)

// readCell returns the cell, nil when it is not known.
func (r *rawDeck) readCell() *crystal.Matrix {
	d := r.deck
	ibrav, at, ok := d.float("system", "ibrav")
	if !ok || d.get("system", "space_group") != nil {
		return nil
	}
	celldm, lengths := r.celldm(int(ibrav))
	if ibrav != 0 {
		m, err := crystal.Bravais(int(ibrav), celldm)
		if err != nil {
			d.problem(at.line, err.Error(), fmt.Sprintf("ibrav is %g", ibrav), "correct it, or set ibrav = 0 and give CELL_PARAMETERS")
			return nil
		}
		return &m
	}
	c := d.card("CELL_PARAMETERS")
	if c == nil {
		d.problem(at.line, "card CELL_PARAMETERS is missing", "ibrav is 0", "add it, or set ibrav")
		return nil
	}
	var m crystal.Matrix
	for i := range m {
		if i >= len(c.rows) {
			d.problem(c.line, "CELL_PARAMETERS needs three vectors", "", "write one on each of three lines")
			return nil
		}
		v, ok := expressions(c.rows[i].fields)
		if !ok {
			d.problem(c.rows[i].line, "a cell vector needs three numbers", strings.Join(c.rows[i].fields, " "), "write: 0.0 2.7 2.7")
			return nil
		}
		m[i] = v
	}
	unit := 1.0
	switch {
	case c.option == "bohr":
		unit = crystal.BohrA
	case c.option == "angstrom":
	case lengths:
		unit = celldm[0] * crystal.BohrA
	default:
		unit = crystal.BohrA // without a unit and celldm(1), bohr
	}
	for i := range m {
		m[i] = scale(m[i], unit)
	}
	if det := m.Det(); !printed.Finite(det) || det == 0 {
		d.problem(c.line, "the cell has no volume", "", "correct the vectors: they lie in a plane")
		return nil
	}
	return &m
}

// celldm collects celldm(1…6), or A, B, C and the cosines in their place.
func (r *rawDeck) celldm(ibrav int) (out [6]float64, given bool) {
	system := r.deck.namelist("system")
	for _, v := range system.vars {
		if v.name != "celldm" {
			continue
		}
		first, err := strconv.Atoi(v.index)
		if err != nil {
			first = 1
		}
		for i, text := range v.values {
			if n := first - 1 + i; 0 <= n && n < 6 {
				out[n], _, _ = printed.Number([]byte(text))
				given = true
			}
		}
	}
	a, _, ok := r.deck.float("system", "a")
	if !ok || !(a > 0) {
		return out, given
	}
	get := func(name string) float64 { v, _, _ := r.deck.float("system", name); return v }
	cosAB, cosAC, cosBC := get("cosab"), get("cosac"), get("cosbc")
	out = [6]float64{a / crystal.BohrA, get("b") / a, get("c") / a}
	switch ibrav {
	case 14, 0:
		out[3], out[4], out[5] = cosBC, cosAC, cosAB
	case -12, -13:
		out[4] = cosAC
	default:
		out[3] = cosAB
	}
	return out, true
}

// checkPositions reads ATOMIC_POSITIONS, and refuses atoms at one place.
func (r *rawDeck) checkPositions(lattice *crystal.Matrix) {
	d := r.deck
	c := d.card("ATOMIC_POSITIONS")
	if c == nil {
		d.problem(0, "card ATOMIC_POSITIONS is missing", "", "add the positions with their unit, such as ATOMIC_POSITIONS crystal")
		return
	}
	if c.option == "crystal_sg" {
		return
	}
	rows := c.rows
	if nat, at, ok := d.float("system", "nat"); ok {
		switch {
		case nat < 1 || nat > maxAtoms:
			d.problem(at.line, fmt.Sprintf("nat = %g is not a number of atoms", nat), "", fmt.Sprintf("set nat = %d", len(rows)))
		case nat > float64(len(rows)):
			d.problem(at.line, fmt.Sprintf("nat is %g, but ATOMIC_POSITIONS has %s", nat, plural(len(rows), "line")), "", fmt.Sprintf("set nat = %d, or add the positions", len(rows)))
		case int(nat) < len(rows):
			r.warn("positions_ignored", fmt.Sprintf("nat is %g: pw.x ignores the other lines of ATOMIC_POSITIONS", nat), fmt.Sprintf("set nat = %d", len(rows)), rows[int(nat)].line)
			rows = rows[:int(nat)]
		}
	}
	a := &atoms{lattice: lattice, crystal: c.option == "crystal"}
	unit := r.positionUnit(c)
	for _, row := range rows {
		if !r.addPosition(a, row, unit) {
			lattice = nil
		}
	}
	if c.option == "" {
		r.warn("unit_missing", "ATOMIC_POSITIONS has no unit: pw.x takes alat", "write the unit", c.line)
	}
	if lattice != nil && unit > 0 && len(a.labels) == len(rows) {
		r.checkStructure(a, rows)
	}
}

// positionUnit is the factor to Å, or to fractions; 0 when it is not known.
func (r *rawDeck) positionUnit(c *card) float64 {
	switch c.option {
	case "crystal", "angstrom":
		return 1
	case "bohr":
		return crystal.BohrA
	case "alat", "":
		ibrav, _, _ := r.deck.float("system", "ibrav")
		if r.deck.namelist("system") == nil {
			return 0
		}
		celldm, _ := r.celldm(int(ibrav))
		return celldm[0] * crystal.BohrA
	}
	r.deck.problem(c.line, fmt.Sprintf("ATOMIC_POSITIONS has the unknown unit %q", c.option), "", "choose alat, bohr, angstrom or crystal")
	return 0
}

// addPosition adds one atom; it returns false for a line whose numbers are not
// plain.
func (r *rawDeck) addPosition(a *atoms, at row, unit float64) bool {
	d := r.deck
	if len(at.fields) < 4 {
		d.problem(at.line, "a position needs a label and three numbers", strings.Join(at.fields, " "), "write: Si 0.25 0.25 0.25")
		return false
	}
	label := at.fields[0]
	i := slices.IndexFunc(r.kinds, func(k kind) bool { return strings.EqualFold(k.label, label) })
	if i >= 0 {
		r.kinds[i].sites++
	} else if c := d.card("ATOMIC_SPECIES"); c != nil && !slices.ContainsFunc(c.rows, func(s row) bool { return strings.EqualFold(s.fields[0], label) }) {
		d.problem(at.line, fmt.Sprintf("species %s is not in ATOMIC_SPECIES", label), "", "correct the label, or add the species and raise ntyp")
	}
	v, ok := expressions(at.fields[1:4])
	if !ok {
		return false
	}
	a.labels = append(a.labels, label)
	a.positions = append(a.positions, scale(v, unit))
	return true
}

// expressions reads three numbers, each plain or a fraction: 1/3.
func expressions(fields []string) (v crystal.Vector, ok bool) {
	if len(fields) < 3 {
		return v, false
	}
	for i := range v {
		over, under, isFraction := strings.Cut(fields[i], "/")
		x, rest, ok := printed.Number([]byte(over))
		if !ok || len(rest) > 0 || !printed.Finite(x) {
			return v, false
		}
		if isFraction {
			y, rest, ok := printed.Number([]byte(under))
			if !ok || len(rest) > 0 || !printed.Finite(x/y) {
				return v, false
			}
			x /= y
		}
		v[i] = x
	}
	return v, true
}

func (r *rawDeck) checkStructure(a *atoms, rows []row) {
	s := a.structure(nil)
	if s == nil {
		return
	}
	s.Labels = nil
	for _, p := range s.Validate() {
		line := r.deck.card("ATOMIC_POSITIONS").line
		var n int
		if _, err := fmt.Sscanf(p.Field, "positions[%d]", &n); err == nil && n < len(rows) {
			line = rows[n].line
		}
		r.deck.problem(line, p.Message, "", p.Fix)
	}
	if len(r.deck.problems) > 0 {
		return
	}
	for i, c := range s.Close(crystal.CloseFactor) {
		if i == 10 {
			break
		}
		r.warn(warnClose, s.Describe(c), "check the positions and their unit", rows[c.J].line)
	}
}
