package crystal

import (
	"fmt"
	"math"
)

// Limits of what is believed to be a structure.
const (
	MaxSites = 1_000_000
	// MinSeparation in Å: nuclei are never nearer, so two sites that are were
	// written twice.
	MinSeparation = 0.1
	// CloseFactor is the share of the sum of two covalent radii below which
	// Close finds a contact worth a warning.
	CloseFactor = 0.5

	minLength  = 0.1  // of a cell vector, Å; the shortest bond is 0.74 Å
	maxLength  = 1e5  // Å: 10 µm is beyond any simulation of atoms
	minAspect  = 1e-4 // cell volume over the product of its lengths
	maxCoord   = 1e6  // Å or cells
	maxMoment  = 100  // µB; no atom has more than 10
	maxSpeed   = 3000 // Å/fs, the speed of light
	maxLabel   = 64   // bytes
	minDensity = 1e-2 // Å³ per site: a hundred times tighter than any matter on Earth
)

// Validate returns everything that is wrong with the structure, nil if nothing
// is. The distances are looked at only when all else is right.
func (s *Structure) Validate() []Problem {
	var ps problems
	s.validateCounts(&ps)
	s.validateLattice(&ps)
	s.validateSites(&ps)
	if !ps.any() {
		s.validateDistances(&ps)
	}
	return ps.all()
}

func (s *Structure) validateCounts(ps *problems) {
	n := len(s.Species)
	switch {
	case n == 0:
		ps.field("species", "the structure has no sites")
	case n > MaxSites:
		ps.field("species", "%d sites are more than the %d allowed", n, MaxSites)
	}
	for _, list := range []struct {
		field   string
		length  int
		present bool
	}{
		{"positions", len(s.Positions), true},
		{"labels", len(s.Labels), s.Labels != nil},
		{"magmoms", len(s.Magmoms), s.Magmoms != nil},
		{"fixed", len(s.Fixed), s.Fixed != nil},
		{"velocities", len(s.Velocities), s.Velocities != nil},
	} {
		if list.present && list.length != n {
			ps.field(list.field, "%d entries for %d species: there must be one per site", list.length, n)
		}
	}
}

func (s *Structure) validateLattice(ps *problems) {
	if s.Lattice == nil {
		if s.PBC != nil && *s.PBC != [3]bool{} {
			ps.field("pbc", "a structure without a lattice cannot repeat")
			ps.fix("give the lattice, or leave out pbc")
		}
		return
	}
	before := len(ps.list)
	product := 1.0
	for k, v := range s.Lattice {
		validateVector(ps, "lattice", k, v, maxLength, "Å")
		length := v.Norm()
		product *= length
		if length < minLength {
			ps.field(fmt.Sprintf("lattice[%d]", k), "the cell vector is %.3g Å long, less than %v Å", length, minLength)
			if length == 0 {
				ps.fix("give it a length: the room between the copies in a calculation that repeats")
			}
		}
	}
	if len(ps.list) > before || ps.omitted > 0 {
		return
	}
	switch v := s.Volume(); {
	case v < minAspect*product:
		ps.field("lattice", "the cell is flat: its vectors lie in a plane, its volume is %.3g Å³", v)
	case v < minDensity*float64(len(s.Species)):
		ps.field("lattice", "%d sites do not fit into a cell of %.3g Å³", len(s.Species), v)
	default:
		if d := newSpace(s).shortest(); d < MinSeparation {
			ps.field("lattice", "the cell repeats after %.3g Å", d)
		}
	}
}

func (s *Structure) validateSites(ps *problems) {
	for i, el := range s.Species {
		if _, ok := ElementOf(el); !ok {
			ps.field(fmt.Sprintf("species[%d]", i), "%s is not an element", quote(el))
			if symbol, ok := canonicalSymbol(letters(el)); ok {
				ps.fix("write %s", symbol)
			}
		}
	}
	unit := "Å"
	if s.Lattice != nil && !s.Cartesian {
		unit = "cells"
	}
	for i, v := range s.Positions {
		validateVector(ps, "positions", i, v, maxCoord, unit)
	}
	for i, v := range s.Velocities {
		validateVector(ps, "velocities", i, v, maxSpeed, "Å/fs")
	}
	for i, m := range s.Magmoms {
		if !(math.Abs(m) <= maxMoment) {
			ps.field(fmt.Sprintf("magmoms[%d]", i), "%v µB is not a number between %d and %d", m, -maxMoment, maxMoment)
		}
	}
	for i, l := range s.Labels {
		if len(l) > maxLabel || !printable(l) {
			ps.field(fmt.Sprintf("labels[%d]", i), "%s is not a label: at most %d letters, digits and signs without blanks", quote(l), maxLabel)
		}
	}
}

func (s *Structure) validateDistances(ps *problems) {
	for _, c := range s.overlaps(MinSeparation) {
		ps.field(fmt.Sprintf("positions[%d]", c.J), "%s", s.Describe(c))
		ps.fix("remove one of them, or check the units and the kind of the coordinates")
	}
}

// Describe says a contact in words, counting the sites from 1.
func (s *Structure) Describe(c Contact) string {
	if c.I == c.J {
		return fmt.Sprintf("site %d (%s) and its own image are %.3f Å apart", c.I+1, s.Species[c.I], c.Distance)
	}
	return fmt.Sprintf("sites %d (%s) and %d (%s) are %.3f Å apart", c.I+1, s.Species[c.I], c.J+1, s.Species[c.J], c.Distance)
}

func validateVector(ps *problems, list string, i int, v Vector, limit float64, unit string) {
	for k, x := range v {
		switch {
		case math.IsNaN(x) || math.IsInf(x, 0):
			ps.field(fmt.Sprintf("%s[%d][%d]", list, i, k), "%v is not a finite number", x)
		case math.Abs(x) > limit:
			ps.field(fmt.Sprintf("%s[%d][%d]", list, i, k), "%g is beyond ±%g %s", x, limit, unit)
		}
	}
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// quote shows a word of a file: quoted, and no longer than a person reads.
func quote(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%+q…", s[:40])
	}
	return fmt.Sprintf("%+q", s)
}
