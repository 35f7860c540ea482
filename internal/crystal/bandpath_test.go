package crystal_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

// lattice is a structure of one atom in the conventional cell's centring.
func lattice(a, b, c, alpha, beta, gamma float64, rows crystal.Matrix) *crystal.Structure {
	conventional, err := crystal.LatticeFromParameters(a, b, c, alpha, beta, gamma)
	if err != nil {
		panic(err)
	}
	var m crystal.Matrix
	for k := range m {
		m[k] = conventional.Cart(rows[k])
	}
	return &crystal.Structure{Lattice: &m, Species: []string{"Po"}, Positions: []crystal.Vector{{}}}
}

var (
	plain = crystal.Matrix{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
	body  = crystal.Matrix{{-.5, .5, .5}, {.5, -.5, .5}, {.5, .5, -.5}}
	face  = crystal.Matrix{{0, .5, .5}, {.5, 0, .5}, {.5, .5, 0}}
	base  = crystal.Matrix{{.5, -.5, 0}, {.5, .5, 0}, {0, 0, 1}}
)

// bravaisExamples are one lattice for each table.
func bravaisExamples() map[string]*crystal.Structure {
	return map[string]*crystal.Structure{
		"CUB": lattice(4, 4, 4, 90, 90, 90, plain), "BCC": lattice(4, 4, 4, 90, 90, 90, body), "FCC": lattice(4, 4, 4, 90, 90, 90, face),
		"TET": lattice(4, 4, 5, 90, 90, 90, plain), "BCT1": lattice(4, 4, 3, 90, 90, 90, body), "BCT2": lattice(4, 4, 7, 90, 90, 90, body),
		"ORC": lattice(3, 4, 5, 90, 90, 90, plain), "ORCC": lattice(3, 4, 5, 90, 90, 90, base), "ORCI": lattice(3, 4, 5, 90, 90, 90, body),
		"ORCF1": lattice(3, 5, 6, 90, 90, 90, face), "ORCF2": lattice(4, 4.5, 5, 90, 90, 90, face), "ORCF3": lattice(3, 5, 3.75, 90, 90, 90, face),
		"HEX": lattice(3, 3, 5, 90, 90, 120, plain), "RHL1": lattice(4, 4, 4, 70, 70, 70, plain), "RHL2": lattice(4, 4, 4, 100, 100, 100, plain),
	}
}

func bandPath(t interface{ Fatal(...any) }, s *crystal.Structure) *crystal.BandPath {
	p, err := s.BandPath(0.01)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// lengths are those of the points in 1/Å, which no choice of the cell changes.
func lengths(s *crystal.Structure, p *crystal.BandPath) map[string]float64 {
	reciprocal := s.Lattice.Reciprocal()
	out := map[string]float64{}
	for label, k := range p.Points {
		v := reciprocal.Cart(k)
		out[label] = v.Norm()
	}
	return out
}

func TestBandPathFindsEveryLatticeInAnyOfItsCells(t *testing.T) {
	t.Parallel()
	for name, s := range bravaisExamples() {
		want := bandPath(t, s)
		if want.Lattice != name {
			t.Errorf("%s is taken for %s", name, want.Lattice)
			continue
		}
		rapid.Check(t, func(t *rapid.T) {
			m := *s.Lattice
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				i := rapid.IntRange(0, 2).Draw(t, "vector")
				n := float64(rapid.IntRange(-2, 2).Draw(t, "times"))
				for k := range 3 {
					m[i][k] += n * m[(i+1)%3][k]
				}
			}
			turn := rapid.Float64Range(0, 6).Draw(t, "turn")
			for i, v := range m {
				m[i] = crystal.Vector{v[0]*math.Cos(turn) - v[1]*math.Sin(turn), v[0]*math.Sin(turn) + v[1]*math.Cos(turn), v[2]}
			}
			other := &crystal.Structure{Lattice: &m, Species: s.Species, Positions: s.Positions}
			got := bandPath(t, other)
			if got.Lattice != name || got.String() != want.String() {
				t.Fatalf("%s is taken for %s: %s", name, got.Lattice, got)
			}
			expected := lengths(s, want)
			for label, k := range lengths(other, got) {
				if math.Abs(k-expected[label]) > 1e-6 {
					t.Fatalf("%s is %v /Å from G in another cell, want %v", label, k, expected[label])
				}
			}
		})
	}
}

// Every point of the tables lies in the first zone: no other point of the
// reciprocal lattice is nearer than G.
func TestBandPathStaysInTheFirstZone(t *testing.T) {
	t.Parallel()
	for name, s := range bravaisExamples() {
		p := bandPath(t, s)
		reciprocal := s.Lattice.Reciprocal()
		on := map[string]bool{}
		for _, line := range p.Lines {
			for _, label := range line {
				on[label] = true
				if _, ok := p.Points[label]; !ok {
					t.Errorf("%s: the path goes to %s, which is no point", name, label)
				}
			}
		}
		for label, k := range p.Points {
			v := reciprocal.Cart(k)
			for i := range 7 * 7 * 7 {
				n := crystal.Vector{float64(i/49 - 3), float64(i/7%7 - 3), float64(i%7 - 3)}
				for j := range n {
					n[j] = k[j] - n[j]
				}
				if d := reciprocal.Cart(n); d.Norm() < v.Norm()-1e-6 {
					t.Errorf("%s: %s at %v lies outside the zone, by %v /Å", name, label, k, v.Norm()-d.Norm())
					break
				}
			}
		}
	}
}

func TestBandPathOfSiliconIsTheOneOfTextbooks(t *testing.T) {
	t.Parallel()
	s := silicon()
	p := bandPath(t, s)
	if p.String() != "G-X-W-K-G-L-U-W-L-K|U-X" {
		t.Error(p)
	}
	got := lengths(s, p)
	unit := math.Pi / 5.43
	for label, want := range map[string]float64{"G": 0, "X": 2 * unit, "L": math.Sqrt(3) * unit, "W": math.Sqrt(5) * unit, "K": 1.5 * math.Sqrt2 * unit} {
		if math.Abs(got[label]-want) > 1e-9 {
			t.Errorf("%s is %v /Å from G, want %v", label, got[label], want)
		}
	}
}

func TestBandPathRefusesWhatHasNoTable(t *testing.T) {
	t.Parallel()
	slab := silicon()
	slab.PBC = &[3]bool{true, true, false}
	for words, s := range map[string]*crystal.Structure{
		"monoclinic": lattice(3, 4, 5, 90, 100, 90, plain), "triclinic": lattice(3, 4, 5, 80, 100, 70, plain),
		"no lattice": {Species: []string{"H"}, Positions: []crystal.Vector{{}}}, "repeat": slab,
	} {
		if _, err := s.BandPath(0.01); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("error %v, want %q", err, words)
		}
	}
}
