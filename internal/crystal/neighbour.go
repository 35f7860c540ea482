package crystal

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Contact is a pair of sites and how near they are, over all periodic images.
type Contact struct {
	I, J     int     // I ≤ J; I = J is a site and its own image
	Distance float64 // Å
}

// MaxContacts is the number after which Close stops looking.
const MaxContacts = 100

// coincident is the distance in Å below which MinDistance stops looking for a
// smaller one.
const coincident = 1e-6

// MinDistance returns the shortest distance between two sites, a site and its
// own periodic images included, and which sites they are. A structure without
// a pair has the distance +Inf and the sites -1. It must be valid but for its
// distances.
//
// The pair is found by adding the sites in random order to a grid as coarse as
// the shortest distance so far, which takes time proportional to the number of
// sites however they are spread.
func (s *Structure) MinDistance() (d float64, i, j int) {
	n := s.NAtoms()
	sp := newSpace(s)
	d, i, j = sp.shortest(), 0, 0
	if n == 0 || math.IsInf(d, 1) && n == 1 {
		return math.Inf(1), -1, -1
	}
	points := sp.points(s)
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	if math.IsInf(d, 1) {
		i, j = order[0], order[1]
		d = sp.basis.Cart(points[i]).sub(sp.basis.Cart(points[j])).Norm()
	}
	if d < coincident {
		return d, min(i, j), max(i, j)
	}
	g := sp.grid(points, d)
	for at, p := range order {
		best := d
		g.visit(p, func(q int, shift Vector) bool {
			if q == p {
				return true
			}
			if r := g.distance(p, q, shift); r < best {
				best, i, j = r, p, q
			}
			return true
		})
		switch {
		case best < coincident:
			return best, min(i, j), max(i, j)
		case best < d:
			d = best
			g = sp.grid(points, d)
			for _, q := range order[:at+1] {
				g.insert(q)
			}
		default:
			g.insert(p)
		}
	}
	return d, min(i, j), max(i, j)
}

// Close returns the pairs of sites nearer than factor times the sum of their
// covalent radii, nearest first and at most MaxContacts of them. At the factor
// 0.5 no chemistry explains them. The structure must be valid.
func (s *Structure) Close(factor float64) []Contact {
	radii, largest := make([]float64, s.NAtoms()), 0.0
	for i, el := range s.Species {
		e, _ := ElementOf(el)
		radii[i] = e.Radius
		largest = max(largest, e.Radius)
	}
	if !(factor > 0) || largest == 0 {
		return nil
	}
	return s.contacts(2*factor*largest, func(i, j int) float64 { return factor * (radii[i] + radii[j]) })
}

// contacts finds the pairs nearer than limit(i, j), which is nowhere more than
// reach.
func (s *Structure) contacts(reach float64, limit func(i, j int) float64) []Contact {
	sp := newSpace(s)
	points := sp.points(s)
	g := sp.grid(points, reach)
	found := map[[2]int]float64{}
	for p := range points {
		g.insert(p)
		full := !g.visit(p, func(q int, shift Vector) bool {
			if q == p && shift == (Vector{}) {
				return true
			}
			if d := g.distance(p, q, shift); d < limit(p, q) {
				pair := [2]int{min(p, q), max(p, q)}
				if old, ok := found[pair]; !ok || d < old {
					found[pair] = d
				}
			}
			return len(found) < MaxContacts
		})
		if full {
			break
		}
	}
	out := make([]Contact, 0, len(found))
	for pair, d := range found {
		out = append(out, Contact{I: pair[0], J: pair[1], Distance: d})
	}
	slices.SortFunc(out, func(a, b Contact) int {
		return cmp.Or(cmp.Compare(a.Distance, b.Distance), cmp.Compare(a.I, b.I), cmp.Compare(a.J, b.J))
	})
	return out
}

// space is the geometry of a structure in a basis fit for searching: the
// repeating vectors reduced to short ones, and unit vectors across them where
// it does not repeat.
type space struct {
	basis    Matrix
	inverse  Matrix
	periodic [3]bool
	height   [3]float64 // between the faces of the basis cell, Å
}

func newSpace(s *Structure) *space {
	var repeating []Vector
	for k, p := range s.Periodic() {
		if p {
			repeating = append(repeating, s.Lattice[k])
		}
	}
	reduceVectors(repeating)
	sp := &space{}
	for k, v := range repeating {
		sp.basis[k], sp.periodic[k] = v, true
	}
	completeBasis(&sp.basis, len(repeating))
	sp.inverse = sp.basis.Inverse()
	volume := math.Abs(sp.basis.Det())
	for k := range 3 {
		sp.height[k] = volume / cross(sp.basis[(k+1)%3], sp.basis[(k+2)%3]).Norm()
	}
	return sp
}

// reduceVectors replaces cell vectors by the short ones of the same lattice, so
// that a very oblique cell is searched as fast as a cube.
func reduceVectors(v []Vector) {
	// Each pass shortens a vector at least as fast as Euclid's algorithm
	// shortens a number; 200 passes are more than doubles have digits for.
	for range 200 {
		changed := false
		for i := range v {
			for j := range v {
				if i == j {
					continue
				}
				if k := math.Round(v[i].Dot(v[j]) / v[j].Dot(v[j])); k != 0 {
					changed = shorten(&v[i], v[i].sub(v[j].scale(k))) || changed
				}
			}
		}
		if len(v) == 3 {
			changed = reduceLongest(v) || changed
		}
		if !changed {
			return
		}
	}
}

// reduceLongest shortens the longest of three vectors by a sum of both others.
func reduceLongest(v []Vector) bool {
	slices.SortFunc(v, func(a, b Vector) int { return cmp.Compare(a.Norm(), b.Norm()) })
	changed := false
	for _, sign := range [4][2]float64{{1, 1}, {1, -1}, {-1, 1}, {-1, -1}} {
		changed = shorten(&v[2], v[2].add(v[0].scale(sign[0])).add(v[1].scale(sign[1]))) || changed
	}
	return changed
}

func shorten(v *Vector, w Vector) bool {
	if w.Norm() >= v.Norm()*(1-1e-12) {
		return false
	}
	*v = w
	return true
}

// completeBasis fills the rows from n on with unit vectors across the others.
func completeBasis(m *Matrix, n int) {
	axes := Matrix{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
	switch n {
	case 0:
		*m = axes
	case 1:
		// The axis least along the vector leaves the best conditioned product.
		least := slices.MinFunc(axes[:], func(a, b Vector) int {
			return cmp.Compare(math.Abs(a.Dot(m[0])), math.Abs(b.Dot(m[0])))
		})
		m[1] = cross(m[0], least)
		m[1] = m[1].scale(1 / m[1].Norm())
		fallthrough
	case 2:
		m[2] = cross(m[0], m[1])
		m[2] = m[2].scale(1 / m[2].Norm())
	}
}

// shortest is the length of the shortest repeating vector, +Inf if none repeats.
func (sp *space) shortest() float64 {
	d := math.Inf(1)
	for i := range 27 {
		n := Vector{float64(i/9 - 1), float64(i/3%3 - 1), float64(i%3 - 1)}
		whole := true
		for k := range 3 {
			whole = whole && (n[k] == 0 || sp.periodic[k])
		}
		if whole && n != (Vector{}) {
			d = min(d, sp.basis.Cart(n).Norm())
		}
	}
	return d
}

// points returns the sites in the basis, wrapped along what repeats.
func (sp *space) points(s *Structure) []Vector {
	out := s.Cart()
	for i, c := range out {
		u := sp.inverse.Cart(c)
		for k := range 3 {
			if sp.periodic[k] {
				u[k] = wrap(u[k])
			}
		}
		out[i] = u
	}
	return out
}

// grid is a hash of the points by box, the boxes being at least width wide.
type grid struct {
	*space
	points []Vector
	width  float64
	boxes  [3]int64 // along what repeats
	reach  [3]int64 // boxes to visit on either side
	key    []uint64 // of a point's box
	head   []int32  // first point of a bucket, -1 if none
	next   []int32
}

func (sp *space) grid(points []Vector, width float64) *grid {
	size := 1
	for size < 2*len(points) {
		size *= 2
	}
	g := &grid{space: sp, points: points, width: width,
		key: make([]uint64, len(points)), head: make([]int32, size), next: make([]int32, len(points))}
	for i := range g.head {
		g.head[i] = -1
	}
	for k := range 3 {
		g.reach[k] = 1
		if sp.periodic[k] {
			// More boxes than this would only be empty.
			g.boxes[k] = int64(min(max(1, math.Floor(sp.height[k]/width)), 1<<20))
			if g.boxes[k] == 1 {
				g.reach[k] = int64(math.Ceil(width / sp.height[k]))
			}
		}
	}
	return g
}

func (g *grid) insert(p int) {
	g.key[p] = boxKey(g.box(g.points[p]))
	b := g.key[p] & uint64(len(g.head)-1)
	g.next[p], g.head[b] = g.head[b], int32(p)
}

func (g *grid) box(u Vector) [3]int64 {
	var b [3]int64
	for k := range 3 {
		if g.periodic[k] {
			b[k] = min(int64(u[k]*float64(g.boxes[k])), g.boxes[k]-1)
		} else {
			b[k] = int64(math.Floor(u[k] / g.width))
		}
	}
	return b
}

// visit calls f for every inserted point that may be nearer than the width to
// p or is in the way, with the image to take it from, until f returns false.
func (g *grid) visit(p int, f func(q int, shift Vector) bool) bool {
	center := g.box(g.points[p])
	for x := -g.reach[0]; x <= g.reach[0]; x++ {
		for y := -g.reach[1]; y <= g.reach[1]; y++ {
			for z := -g.reach[2]; z <= g.reach[2]; z++ {
				if !g.visitBox([3]int64{center[0] + x, center[1] + y, center[2] + z}, f) {
					return false
				}
			}
		}
	}
	return true
}

func (g *grid) visitBox(b [3]int64, f func(q int, shift Vector) bool) bool {
	var shift Vector
	for k := range 3 {
		if !g.periodic[k] {
			continue
		}
		n := b[k] / g.boxes[k]
		if b[k] < n*g.boxes[k] {
			n--
		}
		b[k] -= n * g.boxes[k]
		shift[k] = float64(n)
	}
	key := boxKey(b)
	for q := g.head[key&uint64(len(g.head)-1)]; q >= 0; q = g.next[q] {
		if g.key[q] == key && !f(int(q), shift) {
			return false
		}
	}
	return true
}

func (g *grid) distance(p, q int, shift Vector) float64 {
	return g.basis.Cart(g.points[q].add(shift).sub(g.points[p])).Norm()
}

// boxKey mixes the three numbers of a box into one (the multipliers are those
// of the splitmix64 generator and its finaliser).
func boxKey(b [3]int64) uint64 {
	h := uint64(0)
	for _, n := range b {
		h = (h ^ uint64(n)) + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}
