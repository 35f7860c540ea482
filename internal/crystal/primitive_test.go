package crystal_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

func primitive(t interface{ Fatal(...any) }, s *crystal.Structure) *crystal.Structure {
	p, err := s.Primitive(0.01)
	if err != nil {
		t.Fatal(err)
	}
	if ps := p.Validate(); len(ps) > 0 {
		t.Fatal(ps)
	}
	return p
}

// rockSalt is the conventional cell.
func rockSalt() *crystal.Structure {
	return &crystal.Structure{
		Lattice: &crystal.Matrix{{5.64, 0, 0}, {0, 5.64, 0}, {0, 0, 5.64}},
		Species: []string{"Na", "Na", "Na", "Na", "Cl", "Cl", "Cl", "Cl"},
		Positions: []crystal.Vector{{0, 0, 0}, {0, .5, .5}, {.5, 0, .5}, {.5, .5, 0},
			{.5, 0, 0}, {.5, .5, .5}, {0, 0, .5}, {0, .5, 0}},
	}
}

func TestPrimitiveCellOfRockSaltHasTwoSites(t *testing.T) {
	t.Parallel()
	p := primitive(t, rockSalt())
	if p.Formula() != "ClNa" || math.Abs(p.Volume()-rockSalt().Volume()/4) > 1e-9 {
		t.Fatalf("%s of %v Å³", p.Formula(), p.Volume())
	}
	a, b, c, alpha, beta, gamma := p.Lattice.Parameters()
	side := 5.64 / math.Sqrt2
	if d := cmp.Diff([]float64{side, side, side, 60, 60, 60}, []float64{a, b, c, alpha, beta, gamma}, cmpopts.EquateApprox(0, 1e-9)); d != "" {
		t.Error(d)
	}
}

func TestPrimitiveKeepsSitesThatDifferApart(t *testing.T) {
	t.Parallel()
	s := rockSalt()
	s.Magmoms = []float64{1, 1, -1, -1, 0, 0, 0, 0}
	if p := primitive(t, s); p.NAtoms() != 4 {
		t.Errorf("an antiferromagnet has %d sites, want 4", p.NAtoms())
	}
	s = rockSalt()
	s.Fixed = make([][3]bool, 8)
	s.Fixed[0] = [3]bool{true, true, true}
	if p := primitive(t, s); p.NAtoms() != 8 {
		t.Errorf("a structure with one fixed site has %d sites, want 8", p.NAtoms())
	}
	s = rockSalt()
	s.PBC = &[3]bool{true, true, false}
	if p := primitive(t, s); p.NAtoms() != 4 || p.Lattice[2] != s.Lattice[2] {
		t.Errorf("a slab has %d sites, want 4: %+v", p.NAtoms(), p)
	}
}

func TestPrimitiveUndoesASupercellInAnyDescription(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := repeating(t)
		if s.Lattice == nil {
			return
		}
		s.Velocities = nil
		want := primitive(t, s)
		n := func(what string) int { return rapid.IntRange(1, 3).Draw(t, what) }
		big, err := s.Supercell(n("n1"), n("n2"), n("n3"))
		if err != nil {
			t.Fatal(err)
		}
		shear := float64(rapid.IntRange(-2, 2).Draw(t, "shear"))
		cart := big.Cart()
		for k := range 3 {
			big.Lattice[0][k] += shear * big.Lattice[2][k]
		}
		big.Positions, big.Cartesian = cart, true
		for i := range big.Positions {
			for k := range 3 {
				big.Positions[i][k] += rapid.Float64Range(-1e-4, 1e-4).Draw(t, "noise")
			}
		}
		got := primitive(t, big)
		if got.Formula() != want.Formula() || math.Abs(got.Volume()-want.Volume()) > 1e-6*want.Volume() {
			t.Fatalf("%s of %v Å³, want %s of %v Å³", got.Formula(), got.Volume(), want.Formula(), want.Volume())
		}
		var a, b [6]float64
		a[0], a[1], a[2], a[3], a[4], a[5] = want.Lattice.Parameters()
		b[0], b[1], b[2], b[3], b[4], b[5] = got.Lattice.Parameters()
		if d := cmp.Diff(a, b, cmpopts.EquateApprox(0, 1e-4)); d != "" {
			t.Fatal(d)
		}
	})
}

func TestPrimitiveRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	for _, tolerance := range []float64{0, -1, math.NaN(), 1} {
		if _, err := silicon().Primitive(tolerance); err == nil || !strings.Contains(err.Error(), "tolerance") {
			t.Errorf("tolerance %v: %v", tolerance, err)
		}
	}
	molecule := &crystal.Structure{Species: []string{"H"}, Positions: []crystal.Vector{{}}}
	if _, err := molecule.Primitive(0.01); err == nil {
		t.Error("a molecule has a primitive cell")
	}
}

func TestNiggliGivesOneCellForEveryChoice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		length := func(what string) float64 { return rapid.Float64Range(2, 12).Draw(t, what) }
		degrees := func(what string) float64 {
			return rapid.SampledFrom([]float64{60, 70.5, 77, 90, 90, 101, 109.4712206, 120}).Draw(t, what)
		}
		a := length("a")
		b, c := a, a
		if rapid.Bool().Draw(t, "differ") {
			b, c = length("b"), length("c")
		}
		m, err := crystal.LatticeFromParameters(a, b, c, degrees("alpha"), degrees("beta"), degrees("gamma"))
		if err != nil || m.Det() < 0.05*a*b*c {
			t.Skip("no cell")
		}
		other := m
		for range rapid.IntRange(0, 6).Draw(t, "changes") {
			i := rapid.IntRange(0, 2).Draw(t, "vector")
			n := float64(rapid.IntRange(-3, 3).Draw(t, "times"))
			for k := range 3 {
				other[i][k] += n * other[(i+1)%3][k]
			}
		}
		var want, got [6]float64
		first, second := m.Niggli(), other.Niggli()
		want[0], want[1], want[2], want[3], want[4], want[5] = first.Parameters()
		got[0], got[1], got[2], got[3], got[4], got[5] = second.Parameters()
		if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-2)); d != "" {
			t.Fatal(d)
		}
		if first.Det() <= 0 || math.Abs(first.Det()-m.Det()) > 1e-9*m.Det() {
			t.Fatalf("volume %v, want %v", first.Det(), m.Det())
		}
		if want[0] > want[1]+1e-4 || want[1] > want[2]+1e-4 {
			t.Fatalf("lengths %v are not in order", want[:3])
		}
	})
}
