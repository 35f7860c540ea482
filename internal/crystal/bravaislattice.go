package crystal

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// standardCell is a lattice as the tables of band paths want it.
type standardCell struct {
	name      string // "FCC"
	primitive Matrix // vectors of the table's primitive cell, in the crystal's own direction
	a, b, c   float64
	alpha     float64 // of a rhombohedral cell, radians
}

// rotation is a turn that keeps a lattice: row i is what becomes of vector i,
// in the vectors.
type rotation [3][3]int

// standardise finds the Bravais lattice of a cell by the turns that keep it
// within the tolerance, in Å. The sites do not matter: a crystal may have fewer
// symmetries than its lattice.
func standardise(m *Matrix, tolerance float64) (*standardCell, error) {
	reduced := m.Niggli()
	turns := rotations(&reduced, tolerance)
	l := &axes{m: reduced, turns: turns}
	switch len(turns) {
	case 24:
		return l.cubic()
	case 12:
		return l.hexagonal()
	case 8:
		return l.tetragonal()
	case 6:
		return l.rhombohedral()
	case 4:
		return l.orthorhombic()
	case 2:
		return nil, errors.New("the lattice is monoclinic, for which there is no table of paths")
	case 1:
		return nil, errors.New("the lattice is triclinic, for which there is no table of paths")
	}
	return nil, fmt.Errorf("the lattice has %d rotations within %v Å, which no lattice has: choose another tolerance", len(turns), tolerance)
}

// rotations returns the proper rotations that keep the lattice of a reduced
// cell; their entries are -1, 0 and 1.
func rotations(m *Matrix, tolerance float64) []rotation {
	var candidates [3][][3]int
	for i := range 27 {
		n := [3]int{i/9 - 1, i/3%3 - 1, i%3 - 1}
		for k := range 3 {
			if math.Abs(latticeVector(m, n).Norm()-m[k].Norm()) <= tolerance {
				candidates[k] = append(candidates[k], n)
			}
		}
	}
	same := func(x, y [3]int, i, j int) bool {
		return math.Abs(latticeVector(m, x).Dot(latticeVector(m, y))-m[i].Dot(m[j])) <= tolerance*(m[i].Norm()+m[j].Norm())
	}
	var out []rotation
	for _, x := range candidates[0] {
		for _, y := range candidates[1] {
			if !same(x, y, 0, 1) {
				continue
			}
			for _, z := range candidates[2] {
				if r := (rotation{x, y, z}); r.det() == 1 && same(x, z, 0, 2) && same(y, z, 1, 2) {
					out = append(out, r)
				}
			}
		}
	}
	return out
}

func latticeVector(m *Matrix, n [3]int) Vector {
	return m.Cart(Vector{float64(n[0]), float64(n[1]), float64(n[2])})
}

func (r rotation) det() int {
	return r[0][0]*(r[1][1]*r[2][2]-r[1][2]*r[2][1]) - r[0][1]*(r[1][0]*r[2][2]-r[1][2]*r[2][0]) + r[0][2]*(r[1][0]*r[2][1]-r[1][1]*r[2][0])
}

// order is that of the rotation, by its trace; 0 for none.
func (r rotation) order() int {
	return map[int]int{3: 1, -1: 2, 0: 3, 1: 4, 2: 6}[r[0][0]+r[1][1]+r[2][2]]
}

func (r rotation) of(n [3]int) (out [3]int) {
	for i, x := range n {
		for k := range 3 {
			out[k] += x * r[i][k]
		}
	}
	return out
}

// axis is the shortest lattice vector along the axis of the rotation.
func (r rotation) axis() [3]int {
	for k := range 3 {
		var sum, n [3]int
		n[k] = 1
		for range r.order() { // the turns of a vector add up to a vector on the axis
			for j := range 3 {
				sum[j] += n[j]
			}
			n = r.of(n)
		}
		if d := gcd(gcd(magnitude(sum[0]), magnitude(sum[1])), magnitude(sum[2])); d > 0 {
			return [3]int{sum[0] / d, sum[1] / d, sum[2] / d}
		}
	}
	return [3]int{}
}

// axes are the axes of the rotations of a lattice.
type axes struct {
	m     Matrix
	turns []rotation
}

// of returns the axes of an order, each once, from the shortest to the longest.
func (l *axes) of(order int) [][3]int {
	var out [][3]int
	for _, r := range l.turns {
		if r.order() != order {
			continue
		}
		n := r.axis()
		if !slices.Contains(out, n) && !slices.Contains(out, [3]int{-n[0], -n[1], -n[2]}) {
			out = append(out, n)
		}
	}
	l.sort(out)
	return out
}

func (l *axes) sort(list [][3]int) {
	slices.SortStableFunc(list, func(a, b [3]int) int { return cmp.Compare(l.vector(a).Norm(), l.vector(b).Norm()) })
}

func (l *axes) vector(n [3]int) Vector { return latticeVector(&l.m, n) }

// cell makes the table's cell from the axes of the conventional one, made
// right-handed, and the rows of the primitive cell in its vectors.
func (l *axes) cell(name string, a, b, c [3]int, rows Matrix) *standardCell {
	conventional := Matrix{l.vector(a), l.vector(b), l.vector(c)}
	if conventional.Det() < 0 {
		conventional[2] = conventional[2].scale(-1)
	}
	s := &standardCell{name: name, a: conventional[0].Norm(), b: conventional[1].Norm(), c: conventional[2].Norm()}
	for k := range 3 {
		s.primitive[k] = conventional.Cart(rows[k])
	}
	return s
}

// The primitive vectors of the tables in those of the conventional cell.
var (
	primitiveRows   = Matrix{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
	bodyCentredRows = Matrix{{-.5, .5, .5}, {.5, -.5, .5}, {.5, .5, -.5}}
	faceCentredRows = Matrix{{0, .5, .5}, {.5, 0, .5}, {.5, .5, 0}}
	baseCentredRows = Matrix{{.5, -.5, 0}, {.5, .5, 0}, {0, 0, 1}}
)

// errStrangeAxes is what a tolerance leads to that takes a lattice for two.
var errStrangeAxes = errors.New("the rotations of the lattice do not fit together: choose a smaller tolerance")

func (l *axes) cubic() (*standardCell, error) {
	four := l.of(4)
	if len(four) != 3 {
		return nil, errStrangeAxes
	}
	a, b, c := four[0], four[1], four[2]
	switch magnitude(rotation{a, b, c}.det()) {
	case 1:
		return l.cell("CUB", a, b, c, primitiveRows), nil
	case 2:
		return l.cell("BCC", a, b, c, bodyCentredRows), nil
	case 4:
		return l.cell("FCC", a, b, c, faceCentredRows), nil
	}
	return nil, errStrangeAxes
}

// across returns the shortest twofold axis at a right angle to another axis,
// and what a rotation makes of it.
func (l *axes) across(axis [3]int, turn rotation) (a, b [3]int, ok bool) {
	c := l.vector(axis)
	for _, n := range l.of(2) {
		v := l.vector(n)
		if math.Abs(v.Dot(c)) < 0.1*v.Norm()*c.Norm() {
			return n, turn.of(n), true
		}
	}
	return a, b, false
}

// turn returns a rotation of an order.
func (l *axes) turn(order int) (rotation, bool) {
	i := slices.IndexFunc(l.turns, func(r rotation) bool { return r.order() == order })
	if i < 0 {
		return rotation{}, false
	}
	return l.turns[i], true
}

func (l *axes) hexagonal() (*standardCell, error) {
	turn, ok := l.turn(3)
	if !ok {
		return nil, errStrangeAxes
	}
	a, b, ok := l.across(turn.axis(), turn)
	if c := turn.axis(); ok && magnitude(rotation{a, b, c}.det()) == 1 {
		return l.cell("HEX", a, b, c, primitiveRows), nil
	}
	return nil, errStrangeAxes
}

func (l *axes) tetragonal() (*standardCell, error) {
	turn, ok := l.turn(4)
	if !ok {
		return nil, errStrangeAxes
	}
	c := turn.axis()
	a, b, ok := l.across(c, turn)
	if !ok {
		return nil, errStrangeAxes
	}
	switch magnitude(rotation{a, b, c}.det()) {
	case 1:
		return l.cell("TET", a, b, c, primitiveRows), nil
	case 2:
		s := l.cell("BCT2", a, b, c, bodyCentredRows)
		if s.c < s.a {
			s.name = "BCT1"
		}
		return s, nil
	}
	return nil, errStrangeAxes
}

// rhombohedral finds the three equal vectors around the threefold axis that
// make the primitive cell.
func (l *axes) rhombohedral() (*standardCell, error) {
	turn, ok := l.turn(3)
	if !ok {
		return nil, errStrangeAxes
	}
	for i := range 125 {
		a := [3]int{i/25 - 2, i/5%5 - 2, i%5 - 2}
		b := turn.of(a)
		c := turn.of(b)
		switch (rotation{a, b, c}).det() {
		case -1:
			b, c = c, b
		case 1:
		default:
			continue
		}
		s := l.cell("RHL1", a, b, c, primitiveRows)
		s.alpha = angle(s.primitive[1], s.primitive[2]) * math.Pi / 180
		if s.alpha > math.Pi/2 {
			s.name = "RHL2"
		}
		return s, nil
	}
	return nil, errStrangeAxes
}

func (l *axes) orthorhombic() (*standardCell, error) {
	two := l.of(2)
	if len(two) != 3 {
		return nil, errStrangeAxes
	}
	a, b, c := two[0], two[1], two[2]
	even := func(list ...[3]int) bool {
		for k := range 3 {
			sum := 0
			for _, n := range list {
				sum += n[k]
			}
			if sum%2 != 0 {
				return false
			}
		}
		return true
	}
	switch magnitude(rotation{a, b, c}.det()) {
	case 1:
		return l.cell("ORC", a, b, c, primitiveRows), nil
	case 4:
		return l.cell(faceCentredName(l.vector(a).Norm(), l.vector(b).Norm(), l.vector(c).Norm()), a, b, c, faceCentredRows), nil
	case 2:
		switch {
		case even(a, b, c):
			return l.cell("ORCI", a, b, c, bodyCentredRows), nil
		case even(a, b):
			return l.cell("ORCC", a, b, c, baseCentredRows), nil
		case even(a, c):
			return l.cell("ORCC", a, c, b, baseCentredRows), nil
		case even(b, c):
			return l.cell("ORCC", b, c, a, baseCentredRows), nil
		}
	}
	return nil, errStrangeAxes
}

// faceCentredName tells the three shapes that the zone of a face-centred
// orthorhombic lattice can have; the third is the border of the others.
func faceCentredName(a, b, c float64) string {
	x, y := 1/(a*a), 1/(b*b)+1/(c*c)
	switch {
	case math.Abs(x-y) < 1e-6*x:
		return "ORCF3"
	case x > y:
		return "ORCF1"
	}
	return "ORCF2"
}
