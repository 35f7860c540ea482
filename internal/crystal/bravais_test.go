package crystal_test

import (
	"math"
	"testing"

	"github.com/nano-os/nanoos/internal/crystal"
)

// The examples of Quantum ESPRESSO cover every Bravais lattice; the volume that
// each printed is in none of them, so the cells are compared with their
// definitions in numbers.
func TestBravaisLatticesHaveTheirVolumes(t *testing.T) {
	t.Parallel()
	a, b, c := 2.0, 3.0, 5.0
	bc := [6]float64{a, b / a, c / a}
	with := func(i int, v float64) [6]float64 { m := bc; m[i] = v; return m }
	for _, l := range []struct {
		ibrav  int
		celldm [6]float64
		volume float64
	}{
		{1, bc, 8}, {2, bc, 2}, {3, bc, 4}, {-3, bc, 4}, {4, bc, 20 * math.Sqrt(3) / 2}, {6, bc, 20}, {7, bc, 10}, {8, bc, 30}, {9, bc, 15}, {-9, bc, 15}, {91, bc, 15},
		{10, bc, 7.5}, {11, bc, 15}, {12, with(3, 0.6), 24}, {-12, with(4, 0.6), 24}, {13, with(3, 0.6), 12}, {-13, with(4, 0.6), 12}, {14, bc, 30},
		{5, with(3, 0.5), 8 * math.Sqrt(0.5)}, {-5, with(3, 0.5), 8 * math.Sqrt(0.5)},
	} {
		m, err := crystal.Bravais(l.ibrav, l.celldm)
		if err != nil {
			t.Errorf("ibrav %d: %v", l.ibrav, err)
			continue
		}
		if v := m.Det() / (crystal.BohrA * crystal.BohrA * crystal.BohrA); math.Abs(math.Abs(v)-l.volume) > 1e-9 {
			t.Errorf("ibrav %d: volume %v, want %v", l.ibrav, v, l.volume)
		}
	}
	for _, bad := range []struct {
		ibrav  int
		celldm [6]float64
	}{{1, [6]float64{}}, {4, [6]float64{2}}, {12, with(3, 1.5)}, {77, bc}, {1, [6]float64{math.NaN()}}, {14, [6]float64{2, 1, 1, 0.9, -0.9, 0.9}}} {
		if m, err := crystal.Bravais(bad.ibrav, bad.celldm); err == nil {
			t.Errorf("ibrav %d %v gives %v", bad.ibrav, bad.celldm, m)
		}
	}
}
