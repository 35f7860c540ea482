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
	g := sp.grid(points, 2*d)
	for at, p := range order {
		best := d
		g.visit(p, d, func(q int, shift Vector) bool {
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
			g = sp.grid(points, 2*d)
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
// covalent radii, nearest first and at most MaxContacts of them. At CloseFactor
// no chemistry explains them. The structure must be valid.
func (s *Structure) Close(factor float64) []Contact {
	radii, order := make([]float64, s.NAtoms()), make([]int, s.NAtoms())
	smallest := math.Inf(1)
	for i, el := range s.Species {
		e, _ := ElementOf(el)
		radii[i], order[i] = e.Radius, i
		if e.Radius > 0 {
			smallest = min(smallest, e.Radius)
		}
	}
	if !(factor > 0) || math.IsInf(factor*smallest, 1) {
		return nil
	}
	// Small atoms come first and look as far as their own size asks; a large
	// one finds them all, so one large atom does not slow down the others.
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(radii[i], radii[j]) })
	return s.contacts(order, boxPerReach*2*factor*smallest,
		func(i int) float64 { return 2 * factor * radii[i] },
		func(i, j int) float64 { return factor * (radii[i] + radii[j]) })
}

// overlaps returns the pairs of sites nearer than d.
func (s *Structure) overlaps(d float64) []Contact {
	order := make([]int, s.NAtoms())
	for i := range order {
		order[i] = i
	}
	return s.contacts(order, boxPerReach*d, func(int) float64 { return d }, func(int, int) float64 { return d })
}

// boxPerReach balances the boxes to visit against the points in one: a short
// reach mostly stays within a box four times as wide, and sites that are no
// contacts leave room for only some hundred in it.
const boxPerReach = 4

// contacts finds the pairs nearer than limit(i, j), which for every i is at
// most reach(i) with each j before it in the order.
func (s *Structure) contacts(order []int, width float64, reach func(i int) float64, limit func(i, j int) float64) []Contact {
	sp := newSpace(s)
	g := sp.grid(sp.points(s), width)
	found := map[[2]int]float64{}
	for _, p := range order {
		g.insert(p)
		full := !g.visit(p, reach(p), func(q int, shift Vector) bool {
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

// grid is a hash of the points by box.
type grid struct {
	*space
	points []Vector
	width  float64  // of a box, at least, where the structure does not repeat
	boxes  [3]int64 // along what repeats
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
		if sp.periodic[k] {
			// Fewer than 2⁴⁰ boxes can be told apart by coordinates of 53 bits.
			g.boxes[k] = int64(min(max(1, math.Floor(sp.height[k]/width)), 1<<40))
		}
	}
	return g
}

func (g *grid) insert(p int) {
	var b [3]int64
	for k := range 3 {
		b[k] = g.box(k, g.points[p][k])
		if g.periodic[k] { // 0.999… times many boxes rounds to one too many
			b[k] = min(b[k], g.boxes[k]-1)
		}
	}
	g.key[p] = boxKey(b)
	bucket := g.key[p] & uint64(len(g.head)-1)
	g.next[p], g.head[bucket] = g.head[bucket], int32(p)
}

// box is the number of the box along k that a coordinate lies in, counted on
// into the images.
func (g *grid) box(k int, u float64) int64 {
	if g.periodic[k] {
		return int64(math.Floor(u * float64(g.boxes[k])))
	}
	return int64(math.Floor(u / g.width))
}

// visit calls f for every inserted point that may be within reach of p, with
// the image to take it from, until f returns false.
func (g *grid) visit(p int, reach float64, f func(q int, shift Vector) bool) bool {
	var low, high [3]int64
	for k, u := range g.points[p] {
		r := reach / g.height[k]
		low[k], high[k] = g.box(k, u-r), g.box(k, u+r)
	}
	for x := low[0]; x <= high[0]; x++ {
		for y := low[1]; y <= high[1]; y++ {
			for z := low[2]; z <= high[2]; z++ {
				if !g.visitBox([3]int64{x, y, z}, f) {
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
