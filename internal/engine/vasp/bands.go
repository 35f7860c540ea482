package vasp

import (
	"fmt"
	"math"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
)

// maxBandNumbers bounds the energies kept for a plot, and maxDOSRows the
// energies of a density of states.
const (
	maxBandNumbers = 400_000
	maxDOSRows     = 20_000
	maxBands       = 100_000
)

// bands collects eigenvalues and occupations of one ionic step, k-point by
// k-point.
type bands struct {
	spins   [2]edges
	spin, k int
	band    int
	partial bool        // a state is neither filled nor empty
	keep    bool        // for a plot
	values  [][]float64 // per band, spin down after spin up
	offset  int
	numbers int
}

// edges are the highest filled and lowest empty state of one spin.
type edges struct {
	seen         bool
	filled       int // bands at the k-point that is read
	fewest, most int
	top, bottom  float64
	topAt        int
	bottomAt     int
	kpoints      int
}

func newBands(keep bool) *bands {
	b := &bands{keep: keep, k: -1}
	for i := range b.spins {
		b.spins[i] = edges{fewest: math.MaxInt, top: math.Inf(-1), bottom: math.Inf(1), topAt: -1, bottomAt: -2}
	}
	return b
}

func (b *bands) beginSpin(spin int) {
	if b.spins[0].seen && spin == 1 {
		b.offset = len(b.values)
	}
	b.spin, b.k = min(max(spin, 0), 1), -1
}

func (b *bands) beginK() {
	b.k++
	b.band = 0
	e := &b.spins[b.spin]
	e.filled, e.seen = 0, true
}

// add takes one state. It counts as filled above half of one electron of its
// spin: a threshold near 0 turns insulators with smearing into metals.
func (b *bands) add(energy, occupation float64) {
	if b.k < 0 || b.band >= maxBands || !printed.Finite(energy) || !printed.Finite(occupation) {
		return
	}
	e := &b.spins[b.spin]
	if occupation > 0.5 {
		e.filled++
		if energy > e.top {
			e.top, e.topAt = energy, b.k
		}
	} else if energy < e.bottom {
		e.bottom, e.bottomAt = energy, b.k
	}
	b.partial = b.partial || occupation > 0.05 && occupation < 0.95
	if b.keep {
		b.store(energy)
	}
	b.band++
}

func (b *bands) store(energy float64) {
	i := b.offset + b.band
	if b.numbers++; b.numbers > maxBandNumbers || i > len(b.values) {
		b.keep, b.values = false, nil
		return
	}
	if i == len(b.values) {
		b.values = append(b.values, nil)
	}
	b.values[i] = append(b.values[i], energy)
}

func (b *bands) endK() {
	if b.k < 0 {
		return
	}
	e := &b.spins[b.spin]
	e.fewest, e.most = min(e.fewest, e.filled), max(e.most, e.filled)
	e.kpoints = b.k + 1
}

// gap is the distance in eV of the highest filled and the lowest empty state of
// the k-points computed, and 0 when a band is filled at some k-points and empty
// at others. It is not known when states are filled in part and no band
// crosses, and when no state is empty.
func (b *bands) gap() (gap float64, direct, known bool) {
	if b == nil || !b.spins[0].seen {
		return 0, false, false
	}
	top, bottom := math.Inf(-1), math.Inf(1)
	topAt, bottomAt := -1, -2
	for _, e := range b.spins {
		if !e.seen {
			continue
		}
		if e.fewest != e.most {
			return 0, false, true
		}
		if e.top > top {
			top, topAt = e.top, e.topAt
		}
		if e.bottom < bottom {
			bottom, bottomAt = e.bottom, e.bottomAt
		}
	}
	if !printed.Finite(top) || !printed.Finite(bottom) || b.partial {
		return 0, false, false
	}
	if bottom <= top {
		return 0, false, true
	}
	return bottom - top, topAt == bottomAt, true
}

// series draws the bands along a path of k-points.
func (b *bands) series(path []crystal.Vector, lattice crystal.Matrix) (engine.Series, bool) {
	if b == nil || len(b.values) == 0 || len(path) < 2 || math.Abs(lattice.Det()) < 1e-9 {
		return engine.Series{}, false
	}
	reciprocal := lattice.Reciprocal()
	distance := make(engine.Floats, len(path))
	for i := 1; i < len(path); i++ {
		step := reciprocal.Cart(crystal.Vector{path[i][0] - path[i-1][0], path[i][1] - path[i-1][1], path[i][2] - path[i-1][2]})
		distance[i] = distance[i-1] + norm(step[:])
	}
	s := engine.Series{Name: "bands", Title: "Bands", X: "distance", Columns: []engine.Column{{Name: "distance", Unit: "1/Å", Values: distance}}}
	for i, v := range b.values {
		if len(v) != len(path) {
			return engine.Series{}, false
		}
		name := fmt.Sprintf("band_%d", i+1)
		switch {
		case b.offset > 0 && i < b.offset:
			name = fmt.Sprintf("up_%d", i+1)
		case b.offset > 0:
			name = fmt.Sprintf("down_%d", i+1-b.offset)
		}
		s.Columns = append(s.Columns, engine.Column{Name: name, Unit: "eV", Values: v})
	}
	return s, true
}

// dos is a total density of states.
type dos struct {
	spin     int
	energy   []float64
	density  [2][]float64
	integral [2][]float64
}

func (d *dos) add(row []float64) {
	if len(row) < 2 || len(d.density[d.spin]) >= maxDOSRows {
		return
	}
	if d.spin == 0 {
		d.energy = append(d.energy, row[0])
	}
	d.density[d.spin] = append(d.density[d.spin], row[1])
	sum := math.NaN()
	if len(row) > 2 {
		sum = row[2]
	}
	d.integral[d.spin] = append(d.integral[d.spin], sum)
}

func (d *dos) series() (engine.Series, bool) {
	if d == nil || len(d.energy) == 0 {
		return engine.Series{}, false
	}
	s := engine.Series{Name: "dos", Title: "Density of states", X: "energy", Columns: []engine.Column{{Name: "energy", Unit: "eV", Values: d.energy}}}
	names := []string{"dos", ""}
	if len(d.density[1]) == len(d.energy) {
		names = []string{"dos_up", "dos_down"}
	}
	for i, name := range names {
		if name != "" && len(d.density[i]) == len(d.energy) {
			s.Columns = append(s.Columns, engine.Column{Name: name, Unit: "1/eV", Values: d.density[i]},
				engine.Column{Name: "integrated_" + name, Values: d.integral[i]})
		}
	}
	return s, true
}
