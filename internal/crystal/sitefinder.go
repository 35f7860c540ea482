package crystal

import "math"

// siteFinder finds a site of a kind at a place.
type siteFinder struct {
	*siteGrid
	frac []Vector // wrapped along what repeats
	kind []int
}

func newSiteFinder(s *Structure, kinds []siteKind, tolerance float64) *siteFinder {
	f := &siteFinder{siteGrid: newSiteGrid(s.Lattice, s.Periodic(), tolerance, s.NAtoms()), kind: make([]int, s.NAtoms())}
	wrapped := *s
	wrapped.Wrap()
	for kind, k := range kinds {
		for _, i := range k.sites {
			f.kind[i] = kind
		}
	}
	f.frac = wrapped.Positions
	for i, p := range f.frac {
		f.add(p, f.kind[i])
	}
	return f
}

// translation is a fraction of the cell: steps of 1/order of its vectors.
type translation struct {
	step  [3]int
	order int
}

func (t translation) vector() Vector {
	n := float64(t.order)
	return Vector{float64(t.step[0]) / n, float64(t.step[1]) / n, float64(t.step[2]) / n}
}

// translation returns the simplest fraction of the cell that v is within the
// tolerance, of an order that divides the given one: the translations of a
// structure are so many that each kind has a whole number of sites for each.
// It is false for the whole cell, and along what does not repeat.
func (f *siteFinder) translation(v Vector, divisible int) (translation, bool) {
	for order := 2; order <= divisible; order++ {
		if divisible%order != 0 {
			continue
		}
		if by, ok := f.fraction(v, order); ok {
			return by, true
		}
	}
	return translation{}, false
}

func (f *siteFinder) fraction(v Vector, order int) (by translation, ok bool) {
	by.order = order
	for k, x := range v {
		n := math.Round(x * float64(order))
		if math.Abs(x-n/float64(order))*f.height[k] > f.tolerance {
			return by, false
		}
		if !f.periodic[k] {
			if n != 0 {
				return by, false
			}
			continue
		}
		by.step[k] = ((int(n) % order) + order) % order
	}
	return by, by.step != [3]int{}
}

// siteGrid sorts fractional positions into boxes that are wider than the
// tolerance.
type siteGrid struct {
	lattice   Matrix
	periodic  [3]bool
	tolerance float64
	height    [3]float64 // between the faces of the cell, Å
	boxes     [3]int64
	at        map[[3]int64][]gridSite
}

type gridSite struct {
	position Vector
	kind     int
}

func newSiteGrid(m *Matrix, periodic [3]bool, tolerance float64, sites int) *siteGrid {
	g := &siteGrid{lattice: *m, periodic: periodic, tolerance: tolerance, at: make(map[[3]int64][]gridSite, sites)}
	volume := math.Abs(m.Det())
	// About one site in a box, and no box thinner than the tolerance.
	width := max(2*tolerance, math.Cbrt(volume/float64(max(1, sites))))
	for k := range 3 {
		g.height[k] = volume / cross(m[(k+1)%3], m[(k+2)%3]).Norm()
		g.boxes[k] = int64(min(max(1, math.Floor(g.height[k]/width)), 1<<20))
	}
	return g
}

func (g *siteGrid) box(v Vector) (b [3]int64) {
	for k := range 3 {
		b[k] = int64(math.Floor(v[k] * float64(g.boxes[k])))
		if g.periodic[k] {
			b[k] = min(b[k], g.boxes[k]-1)
		}
	}
	return b
}

func (g *siteGrid) add(v Vector, kind int) {
	b := g.box(v)
	g.at[b] = append(g.at[b], gridSite{v, kind})
}

// has reports whether a site of the kind stands within the tolerance of v.
func (g *siteGrid) has(v Vector, kind int) bool {
	var low, high [3]int64
	for k := range 3 {
		if g.periodic[k] {
			v[k] = wrap(v[k])
		}
		reach := g.tolerance / g.height[k]
		low[k] = int64(math.Floor((v[k] - reach) * float64(g.boxes[k])))
		high[k] = int64(math.Floor((v[k] + reach) * float64(g.boxes[k])))
	}
	for x := low[0]; x <= high[0]; x++ {
		for y := low[1]; y <= high[1]; y++ {
			for z := low[2]; z <= high[2]; z++ {
				if g.inBox([3]int64{x, y, z}, v, kind) {
					return true
				}
			}
		}
	}
	return false
}

func (g *siteGrid) inBox(b [3]int64, v Vector, kind int) bool {
	for k := range 3 {
		if g.periodic[k] {
			b[k] = ((b[k] % g.boxes[k]) + g.boxes[k]) % g.boxes[k]
		}
	}
	for _, site := range g.at[b] {
		if site.kind != kind {
			continue
		}
		d := site.position.sub(v)
		for k := range 3 {
			if g.periodic[k] {
				d[k] -= math.Round(d[k])
			}
		}
		if g.lattice.Cart(d).Norm() <= g.tolerance {
			return true
		}
	}
	return false
}
