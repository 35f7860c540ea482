package crystal

import (
	"cmp"
	"fmt"
	"slices"
)

// maxTranslationTests bounds the work of the search for translations: the
// sites that are looked up. They take some seconds.
const maxTranslationTests = 1 << 25

// maxTolerance in Å is less than half a bond: beyond it neighbours are one site.
const maxTolerance = 0.3

// Primitive returns the smallest cell that repeats to the same structure: the
// translations that carry every site onto one of its kind within the tolerance,
// in Å, become cell vectors. Sites of a kind have equal element, label, moment,
// fixed coordinates and velocity. Of sites that become one, the first stays.
//
// The vectors of a structure that repeats in all directions are reduced as by
// Niggli; of another one, those that repeat become short. The crystal keeps its
// place and its direction in space.
func (s *Structure) Primitive(tolerance float64) (*Structure, error) {
	switch {
	case s.Lattice == nil:
		return nil, fmt.Errorf("primitive cell of %s: %w", s.Formula(), errNoLattice)
	case !(tolerance > 0 && tolerance <= maxTolerance):
		return nil, fmt.Errorf("primitive cell of %s: the tolerance %v is not between 0 and %v Å", s.Formula(), tolerance, maxTolerance)
	}
	s = s.inCell(s.reducedLattice())
	search := &translationSearch{tolerance: tolerance, budget: maxTranslationTests}
	for {
		smaller, err := search.divide(s)
		if err != nil {
			return nil, fmt.Errorf("primitive cell of %s: %w", s.Formula(), err)
		}
		if smaller == nil {
			break
		}
		s = smaller
	}
	return s.inCell(s.reducedLattice()), nil
}

// reducedLattice returns short vectors of the lattice, right-handed where the
// choice is free.
func (s *Structure) reducedLattice() Matrix {
	if s.Periodic() == [3]bool{true, true, true} {
		return s.Lattice.Niggli()
	}
	m := *s.Lattice
	var repeating []Vector
	for k, p := range s.Periodic() {
		if p {
			repeating = append(repeating, m[k])
		}
	}
	reduceVectors(repeating)
	for k, p := range s.Periodic() {
		if p {
			m[k], repeating = repeating[0], repeating[1:]
		}
	}
	return m
}

// inCell describes the structure by other vectors of the same lattice.
func (s *Structure) inCell(m Matrix) *Structure {
	out := *s
	out.Lattice, out.Positions, out.Cartesian = &m, s.Cart(), true
	out.Wrap()
	return &out
}

type translationSearch struct {
	tolerance float64
	budget    int
}

// divide returns the structure in a cell that one translation makes smaller,
// nil when there is none.
func (t *translationSearch) divide(s *Structure) (*Structure, error) {
	kinds := s.kinds()
	order := 0
	for _, k := range kinds {
		order = gcd(len(k.sites), order)
	}
	if order == 1 {
		return nil, nil
	}
	rarest := slices.MinFunc(kinds, func(a, b siteKind) int { return cmp.Compare(len(a.sites), len(b.sites)) })
	finder := newSiteFinder(s, kinds, t.tolerance)
	for _, to := range rarest.sites[1:] {
		by, ok := finder.translation(finder.frac[to].sub(finder.frac[rarest.sites[0]]), order)
		if !ok {
			continue
		}
		carries, err := t.carries(finder, by)
		if err != nil {
			return nil, err
		}
		if !carries {
			continue
		}
		if smaller := s.divided(by, finder); smaller != nil {
			return smaller, nil
		}
	}
	return nil, nil
}

// carries reports whether a translation takes every site to one of its kind.
func (t *translationSearch) carries(f *siteFinder, by translation) (bool, error) {
	shift := by.vector()
	for i := range f.frac {
		if t.budget--; t.budget < 0 {
			return false, fmt.Errorf("the search for translations takes more than %d tests", maxTranslationTests)
		}
		if !f.has(f.frac[i].add(shift), f.kind[i]) {
			return false, nil
		}
	}
	return true, nil
}

// divided returns the structure in the lattice that the translation adds to;
// nil when the sites do not go into it evenly.
func (s *Structure) divided(by translation, f *siteFinder) *Structure {
	order := by.order
	basis := integerBasis([4][3]int{{order, 0, 0}, {0, order, 0}, {0, 0, order}, by.step})
	out := &Structure{PBC: s.PBC, Lattice: new(Matrix)}
	parts := order * order * order / (basis[0][0] * basis[1][1] * basis[2][2])
	for k, row := range basis {
		for j, n := range row {
			out.Lattice[k] = out.Lattice[k].add(s.Lattice[j].scale(float64(n) / float64(order)))
		}
	}
	inverse := out.Lattice.Inverse()
	taken := &siteFinder{siteGrid: newSiteGrid(out.Lattice, f.periodic, f.tolerance, s.NAtoms())}
	for i, c := range s.Cart() {
		frac := inverse.Cart(c)
		for k := range frac {
			if f.periodic[k] {
				frac[k] = wrap(frac[k])
			}
		}
		if taken.has(frac, f.kind[i]) {
			continue
		}
		taken.add(frac, f.kind[i])
		out.Positions = append(out.Positions, frac)
		out.copySite(s, i)
	}
	if len(out.Positions)*parts != s.NAtoms() {
		return nil
	}
	return out
}

// integerBasis returns three rows, in triangular form, that make the same
// lattice as the four: Euclid's algorithm on the columns from the last to the
// first, so that a direction which the added row does not touch stays.
func integerBasis(rows [4][3]int) (basis [3][3]int) {
	left := rows[:]
	for column := 2; column >= 0; column-- {
		for {
			slices.SortStableFunc(left, func(a, b [3]int) int { return cmp.Compare(magnitude(a[column]), magnitude(b[column])) })
			pivot := slices.IndexFunc(left, func(r [3]int) bool { return r[column] != 0 })
			if pivot == len(left)-1 {
				break
			}
			for i := pivot + 1; i < len(left); i++ {
				n := left[i][column] / left[pivot][column]
				for k := range 3 {
					left[i][k] -= n * left[pivot][k]
				}
			}
		}
		basis[column] = left[len(left)-1]
		left = left[:len(left)-1]
		if basis[column][column] < 0 {
			for k := range 3 {
				basis[column][k] = -basis[column][k]
			}
		}
	}
	return basis
}

// magnitude ranks a number by its size, zero first.
func magnitude(n int) int { return max(n, -n) }
