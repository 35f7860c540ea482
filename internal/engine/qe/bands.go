package qe

import (
	"fmt"
	"math"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
)

// maxBandNumbers bounds the energies kept for a plot.
const maxBandNumbers = 400_000

// bands collects the eigenvalues of one XML file, k-point by k-point: for each
// band its lowest and highest energy and where they are, and for a plot all of
// them.
type bands struct {
	channels []channel // one, or spin up and down
	path     [][3]float64
	values   [][]float64 // per band, channels one after the other; nil when not kept
	keep     bool
	n        int // k-points so far
	k        [3]float64
	partial  bool // a state is neither filled nor empty
}

// channel is the bands of one spin.
type channel struct {
	nbnd      int
	low, high []float64
	lowAt     []int // k-point of the lowest energy
	highAt    []int
}

func newBands(x *xmlRun) *bands {
	b := &bands{keep: x.calculation == "bands"}
	switch {
	case x.lsda && x.nup > 0 && x.ndown > 0:
		b.channels = []channel{{nbnd: x.nup}, {nbnd: x.ndown}}
	case x.lsda && x.nbnd > 0:
		b.channels = []channel{{nbnd: x.nbnd}, {nbnd: x.nbnd}}
	default:
		b.channels = []channel{{}}
	}
	return b
}

func (b *bands) begin() { b.k = [3]float64{math.NaN(), math.NaN(), math.NaN()} }

// add takes the eigenvalues of one k-point, in Ha.
func (b *bands) add(e []float64) {
	if len(e) == 0 {
		return
	}
	rest := e
	for i := range b.channels {
		c := &b.channels[i]
		n := len(rest)
		if len(b.channels) > 1 {
			if n = c.nbnd; n > len(rest) {
				return
			}
		}
		c.add(rest[:n], b.n)
		rest = rest[n:]
	}
	b.store(e)
	b.n++
}

// addOccupations notes states that are filled in part: smearing at the tail of
// a band edge does not count.
func (b *bands) addOccupations(v []float64) {
	for _, f := range v {
		b.partial = b.partial || f > 0.05 && f < 0.95
	}
}

func (c *channel) add(e []float64, k int) {
	for i, v := range e {
		if i == len(c.low) {
			if k > 0 {
				return // k-points with different numbers of bands do not compare
			}
			c.low, c.high = append(c.low, v), append(c.high, v)
			c.lowAt, c.highAt = append(c.lowAt, k), append(c.highAt, k)
			continue
		}
		if v < c.low[i] {
			c.low[i], c.lowAt[i] = v, k
		}
		if v > c.high[i] {
			c.high[i], c.highAt[i] = v, k
		}
	}
	c.nbnd = len(c.low)
}

func (b *bands) store(e []float64) {
	if !b.keep {
		return
	}
	if b.values == nil {
		b.values = make([][]float64, len(e))
	}
	if len(e) != len(b.values) || (b.n+1)*len(e) > maxBandNumbers {
		b.keep, b.values = false, nil
		return
	}
	b.path = append(b.path, b.k)
	for i, v := range e {
		b.values[i] = append(b.values[i], v)
	}
}

// gap is the distance in eV between the highest occupied and the lowest empty
// state of the k-points computed, and 0 when a band crosses the Fermi energy.
// known is false when no band is empty, and when none crosses but states are
// filled in part: then the mesh or the smearing is too coarse to tell.
func (x *xmlRun) gap(fermi []float64) (gap float64, direct, known bool) {
	b := x.bands
	if b == nil || b.n == 0 || x.nelec == nil {
		return 0, false, false
	}
	top, bottom := math.Inf(-1), math.Inf(1)
	topAt, bottomAt := -1, -2
	for i, c := range b.channels {
		filled, ok := x.filled(i, c, fermi)
		if !ok {
			return 0, false, filled == metallic
		}
		if filled > len(c.low) || filled < 0 {
			return 0, false, false
		}
		if filled > 0 && c.high[filled-1] > top {
			top, topAt = c.high[filled-1], c.highAt[filled-1]
		}
		if filled < len(c.low) && c.low[filled] < bottom {
			bottom, bottomAt = c.low[filled], c.lowAt[filled]
		}
	}
	if !printed.Finite(top) || !printed.Finite(bottom) || b.partial && x.occupations != "fixed" {
		return 0, false, false
	}
	return max(0, (bottom-top)*crystal.HartreeEV), topAt == bottomAt, true
}

// metallic stands for the number of filled bands when one is filled in part.
const metallic = -1

// filled counts the filled bands of a channel: by the electrons when the
// occupations are fixed, else by the Fermi energy. It is metallic when a band
// crosses that.
func (x *xmlRun) filled(spin int, c channel, fermi []float64) (int, bool) {
	if x.occupations == "fixed" || x.occupations == "" || len(fermi) == 0 {
		return x.filledByCount(spin)
	}
	ef := fermi[min(spin, len(fermi)-1)]
	n := 0
	for i := range c.low {
		switch {
		case c.high[i] <= ef:
			n++
		case c.low[i] < ef:
			return metallic, false
		}
	}
	return n, true
}

func (x *xmlRun) filledByCount(spin int) (int, bool) {
	electrons := *x.nelec
	switch {
	case x.noncollinear:
	case len(x.bands.channels) == 1:
		electrons /= 2
	case x.magTotal == nil:
		return 0, false
	case spin == 0:
		electrons = (electrons + *x.magTotal) / 2
	default:
		electrons = (electrons - *x.magTotal) / 2
	}
	n := math.Round(electrons)
	if math.Abs(n-electrons) > 0.05 || n < 0 || n > 1e6 {
		return 0, false
	}
	return int(n), true
}

// bandSeries draws the bands along the path of k-points, in eV over 1/Å.
func (x *xmlRun) bandSeries() (engine.Series, bool) {
	b := x.bands
	if b == nil || len(b.values) == 0 || len(b.path) < 2 || x.alat <= 0 {
		return engine.Series{}, false
	}
	unit := 2 * math.Pi / (x.alat * crystal.BohrA)
	distance := make(engine.Floats, len(b.path))
	for i := 1; i < len(b.path); i++ {
		step := [3]float64{b.path[i][0] - b.path[i-1][0], b.path[i][1] - b.path[i-1][1], b.path[i][2] - b.path[i-1][2]}
		distance[i] = distance[i-1] + length(step)*unit
	}
	s := engine.Series{Name: "bands", Title: "Bands", X: "distance", Columns: []engine.Column{{Name: "distance", Unit: "1/Å", Values: distance}}}
	for i, v := range b.values {
		energies := make(engine.Floats, len(v))
		for j, e := range v {
			energies[j] = e * crystal.HartreeEV
		}
		s.Columns = append(s.Columns, engine.Column{Name: b.columnName(i), Unit: "eV", Values: energies})
	}
	return s, true
}

func (b *bands) columnName(i int) string {
	if len(b.channels) == 1 {
		return fmt.Sprintf("band_%d", i+1)
	}
	if i < b.channels[0].nbnd {
		return fmt.Sprintf("up_%d", i+1)
	}
	return fmt.Sprintf("down_%d", i+1-b.channels[0].nbnd)
}
