package crystal_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

// silicon is the primitive cell of diamond.
func silicon() *crystal.Structure {
	return &crystal.Structure{
		Lattice:   &crystal.Matrix{{0, 2.715, 2.715}, {2.715, 0, 2.715}, {2.715, 2.715, 0}},
		Species:   []string{"Si", "Si"},
		Positions: []crystal.Vector{{0, 0, 0}, {0.25, 0.25, 0.25}},
	}
}

// anyStructure draws a valid structure with whatever a Structure can hold.
func anyStructure(t *rapid.T) *crystal.Structure {
	s := &crystal.Structure{}
	real := func(low, high float64, what string) float64 { return rapid.Float64Range(low, high).Draw(t, what) }
	vector := func(low, high float64, what string) crystal.Vector {
		return crystal.Vector{real(low, high, what), real(low, high, what), real(low, high, what)}
	}
	if rapid.Bool().Draw(t, "crystal") {
		m, err := crystal.LatticeFromParameters(real(3, 12, "a"), real(3, 12, "b"), real(3, 12, "c"),
			real(60, 100, "alpha"), real(60, 100, "beta"), real(60, 100, "gamma"))
		if err != nil {
			t.Skip(err)
		}
		s.Lattice = &m
		s.Cartesian = rapid.Bool().Draw(t, "cartesian")
		if rapid.Bool().Draw(t, "slab") {
			s.PBC = &[3]bool{true, true, false}
		}
	}
	optional := func(what string) bool { return rapid.Bool().Draw(t, what) }
	labels, magmoms, fixed, velocities := optional("labels"), optional("magmoms"), optional("fixed"), optional("velocities")
	for range rapid.IntRange(1, 12).Draw(t, "sites") {
		s.Species = append(s.Species, rapid.SampledFrom([]string{"H", "C", "O", "Si", "Fe", "U", "D"}).Draw(t, "element"))
		s.Positions = append(s.Positions, vector(-1.5, 1.5, "position"))
		if labels {
			s.Labels = append(s.Labels, rapid.StringMatching(`[A-Z][a-z0-9]{0,4}`).Draw(t, "label"))
		}
		if magmoms {
			s.Magmoms = append(s.Magmoms, real(-5, 5, "moment"))
		}
		if fixed {
			s.Fixed = append(s.Fixed, [3]bool{true, rapid.Bool().Draw(t, "fixed"), rapid.Bool().Draw(t, "fixed")})
		}
		if velocities {
			s.Velocities = append(s.Velocities, vector(-0.1, 0.1, "velocity"))
		}
	}
	if ps := s.Validate(); len(ps) > 0 {
		t.Skip(ps)
	}
	return s
}

func TestAGoodStructureHasNoProblems(t *testing.T) {
	t.Parallel()
	if ps := silicon().Validate(); len(ps) > 0 {
		t.Error(ps)
	}
}

func TestValidateNamesEveryFaultByItsPath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(s *crystal.Structure)
		field string
		words string
	}{
		{"no sites", func(s *crystal.Structure) { s.Species, s.Positions = nil, nil }, "species", "no sites"},
		{"unknown element", func(s *crystal.Structure) { s.Species[1] = "Sj" }, "species[1]", "not an element"},
		{"wrong case", func(s *crystal.Structure) { s.Species[1] = "SI" }, "species[1]", "not an element"},
		{"too few positions", func(s *crystal.Structure) { s.Positions = s.Positions[:1] }, "positions", "1 entries for 2 species"},
		{"too few moments", func(s *crystal.Structure) { s.Magmoms = []float64{1} }, "magmoms", "1 entries for 2 species"},
		{"no number", func(s *crystal.Structure) { s.Positions[1][2] = math.NaN() }, "positions[1][2]", "not a finite number"},
		{"infinite cell", func(s *crystal.Structure) { s.Lattice[0][1] = math.Inf(1) }, "lattice[0][1]", "not a finite number"},
		{"far away", func(s *crystal.Structure) { s.Positions[0][0] = 1e9 }, "positions[0][0]", "beyond"},
		{"flat cell", func(s *crystal.Structure) { s.Lattice[2] = s.Lattice[1] }, "lattice", "flat"},
		{"short repeat", func(s *crystal.Structure) {
			s.Lattice[1] = crystal.Vector{0, 2.715, 2.765}
		}, "lattice", "repeats after 0.05 Å"},
		{"no height", func(s *crystal.Structure) { s.Lattice[2] = crystal.Vector{} }, "lattice[2]", "0 Å long"},
		{"huge moment", func(s *crystal.Structure) { s.Magmoms = []float64{0, 1e3} }, "magmoms[1]", "between"},
		{"twice the same site", func(s *crystal.Structure) { s.Positions[1] = crystal.Vector{1, -1, 3} }, "positions[1]", "sites 1 (Si) and 2 (Si) are 0.000 Å apart"},
		{"free space that repeats", func(s *crystal.Structure) { s.Lattice, s.PBC = nil, &[3]bool{true} }, "pbc", "cannot repeat"},
		{"blank in a label", func(s *crystal.Structure) { s.Labels = []string{"a", "b c"} }, "labels[1]", "not a label"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := silicon()
			test.spoil(s)
			ps := s.Validate()
			if len(ps) != 1 || ps[0].Field != test.field || !strings.Contains(ps[0].Message, test.words) {
				t.Errorf("problems %v, want one at %s with %q", ps, test.field, test.words)
			}
		})
	}
}

func TestValidateReportsAllFaultsButNotAMillionOfThem(t *testing.T) {
	t.Parallel()
	s := &crystal.Structure{Species: make([]string, 1000), Positions: make([]crystal.Vector, 1000)}
	ps := s.Validate()
	if len(ps) != crystal.MaxProblems+1 {
		t.Fatalf("%d problems, want %d", len(ps), crystal.MaxProblems+1)
	}
	if want := "and at least 950 more problems"; ps[crystal.MaxProblems].Message != want {
		t.Errorf("the last one says %q, want %q", ps[crystal.MaxProblems].Message, want)
	}
}

func TestDerivedNumbersOfSilicon(t *testing.T) {
	t.Parallel()
	s := silicon()
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6*math.Abs(want) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("volume", s.Volume(), 5.43*5.43*5.43/4)
	near("density", s.Density(), 8*28.085*1.66053906660/(5.43*5.43*5.43))
	d, i, j := s.MinDistance()
	near("bond", d, 5.43*math.Sqrt(3)/4)
	if i != 0 || j != 1 {
		t.Errorf("the bond is between %d and %d", i, j)
	}
	a, b, c, alpha, beta, gamma := s.Lattice.Parameters()
	near("a", a, 5.43/math.Sqrt2)
	near("b", b, a)
	near("c", c, a)
	near("alpha", alpha, 60)
	near("beta", beta, 60)
	near("gamma", gamma, 60)
	reciprocal := s.Lattice.Reciprocal()
	near("reciprocal length", reciprocal[0].Norm(), 2*math.Pi*math.Sqrt(3)/5.43)
	if got, want := s.Formula()+" "+s.Reduced(), "Si2 Si"; got != want {
		t.Errorf("formulas %s, want %s", got, want)
	}
}

func TestFormulasAreInHillOrder(t *testing.T) {
	t.Parallel()
	for _, test := range [][3]string{
		{"O Ti O", "O2Ti", "O2Ti"},
		{"H C H H O C H H H", "C2H6O", "C2H6O"},
		{"O H O H", "H2O2", "HO"},
		{"Na Cl Na Cl", "Cl2Na2", "ClNa"},
	} {
		s := &crystal.Structure{Species: strings.Fields(test[0])}
		if s.Formula() != test[1] || s.Reduced() != test[2] {
			t.Errorf("%s has the formulas %s and %s, want %s and %s", test[0], s.Formula(), s.Reduced(), test[1], test[2])
		}
	}
}

func TestEveryElementIsWhereItsNumberSays(t *testing.T) {
	t.Parallel()
	last := 0.0
	for z := 1; z <= 118; z++ {
		e, ok := crystal.ElementOfZ(z)
		if !ok || e.Z != z {
			t.Fatalf("element %d is %+v", z, e)
		}
		if same, ok := crystal.ElementOf(e.Symbol); !ok || same != e {
			t.Errorf("%s is found as %+v", e.Symbol, same)
		}
		if e.Mass < last-3 || e.Mass > last+13 {
			t.Errorf("the mass of %s is %v after %v", e.Symbol, e.Mass, last)
		}
		last = e.Mass
	}
	if _, ok := crystal.ElementOfZ(119); ok {
		t.Error("there is an element 119")
	}
	if m, _ := crystal.Mass("D"); m != 2.014 {
		t.Errorf("deuterium weighs %v", m)
	}
	if _, ok := crystal.Mass("Xx"); ok {
		t.Error("Xx has a mass")
	}
}

func TestKMeshIsAsDenseAsAsked(t *testing.T) {
	t.Parallel()
	cube := &crystal.Structure{Lattice: &crystal.Matrix{{2 * math.Pi, 0, 0}, {0, math.Pi, 0}, {0, 0, 20}}, PBC: &[3]bool{true, true, false}}
	mesh, err := cube.KMesh(0.25)
	if err != nil || mesh != [3]int{4, 8, 1} {
		t.Errorf("mesh %v (%v), want 4 8 1", mesh, err)
	}
	for _, spacing := range []float64{0, -1, math.NaN(), math.Inf(1), 1e-9} {
		if _, err := cube.KMesh(spacing); err == nil {
			t.Errorf("a spacing of %v is accepted", spacing)
		}
	}
}

func TestASupercellHasTheSameSurroundings(t *testing.T) {
	t.Parallel()
	s := silicon()
	s.Magmoms = []float64{1, -1}
	big, err := s.Supercell(2, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if big.NAtoms() != 12 || math.Abs(big.Volume()-6*s.Volume()) > 1e-9 || len(big.Magmoms) != 12 {
		t.Errorf("%d atoms, volume %v", big.NAtoms(), big.Volume())
	}
	if ps := big.Validate(); len(ps) > 0 {
		t.Error(ps)
	}
	d, _, _ := big.MinDistance()
	if want, _, _ := s.MinDistance(); math.Abs(d-want) > 1e-9 {
		t.Errorf("shortest distance %v, want %v", d, want)
	}
	for _, n := range [][3]int{{0, 1, 1}, {1, -1, 1}, {1 << 40, 1 << 40, 1}, {1000, 1000, 1}} {
		if _, err := s.Supercell(n[0], n[1], n[2]); err == nil {
			t.Errorf("supercell %v is made", n)
		}
	}
}

func TestFractionalAndCartesianPositionsAreInverse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyStructure(t)
		if s.Lattice == nil {
			if s.Frac() != nil {
				t.Fatal("fractions without a lattice")
			}
			return
		}
		back := &crystal.Structure{Lattice: s.Lattice, Positions: s.Cart(), Cartesian: true}
		if d := cmp.Diff(s.Frac(), back.Frac(), cmpopts.EquateApprox(0, 1e-12)); d != "" {
			t.Fatal(d)
		}
	})
}

func TestWrappedSitesAreInTheCell(t *testing.T) {
	t.Parallel()
	s := silicon()
	s.Positions = []crystal.Vector{{-1e-18, 1, -0.25}, {2.5, 0.5, 1e5 + 0.5}}
	s.Wrap()
	want := []crystal.Vector{{0, 0, 0.75}, {0.5, 0.5, 0.5}}
	if d := cmp.Diff(want, s.Positions, cmpopts.EquateApprox(0, 1e-9)); d != "" {
		t.Error(d)
	}
}

// slowest is the shortest distance by looking at every pair in many images.
func slowest(s *crystal.Structure) float64 {
	cart, periodic := s.Cart(), s.Periodic()
	shifts := []crystal.Vector{{}}
	if s.Lattice != nil {
		shifts = nil
		const n = 4
		for x := -n; x <= n; x++ {
			for y := -n; y <= n; y++ {
				for z := -n; z <= n; z++ {
					if x != 0 && !periodic[0] || y != 0 && !periodic[1] || z != 0 && !periodic[2] {
						continue
					}
					shifts = append(shifts, s.Lattice.Cart(crystal.Vector{float64(x), float64(y), float64(z)}))
				}
			}
		}
	}
	best := math.Inf(1)
	for i := range cart {
		for j := range cart {
			for _, shift := range shifts {
				d := 0.0
				for k := range 3 {
					x := cart[j][k] + shift[k] - cart[i][k]
					d += x * x
				}
				if i != j || shift != (crystal.Vector{}) {
					best = min(best, math.Sqrt(d))
				}
			}
		}
	}
	return best
}

func TestTheShortestDistanceIsThatOfAllPairs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyStructure(t)
		d, i, j := s.MinDistance()
		want := slowest(s)
		if math.IsInf(want, 1) {
			if !math.IsInf(d, 1) || i != -1 || j != -1 {
				t.Fatalf("%v between %d and %d of a single atom", d, i, j)
			}
			return
		}
		if math.Abs(d-want) > 1e-9 {
			t.Fatalf("shortest distance %v between %d and %d, want %v", d, i, j, want)
		}
	})
}

func TestAnObliqueCellOfTheSameCrystalHasTheSameShortestDistance(t *testing.T) {
	t.Parallel()
	s := silicon()
	cart := s.Cart()
	for k := range 3 {
		s.Lattice[2][k] += 400*s.Lattice[0][k] - 300*s.Lattice[1][k]
	}
	s.Positions, s.Cartesian = cart, true
	want, _, _ := silicon().MinDistance()
	if d, _, _ := s.MinDistance(); math.Abs(d-want) > 1e-6 {
		t.Errorf("shortest distance %v, want %v", d, want)
	}
}

func TestCloseContactsAreMeasuredByTheRadii(t *testing.T) {
	t.Parallel()
	s := silicon()
	if c := s.Close(crystal.CloseFactor); len(c) > 0 {
		t.Errorf("silicon has close contacts: %v", c)
	}
	s.Positions[1] = crystal.Vector{0.1, 0.1, 0.1}
	c := s.Close(crystal.CloseFactor)
	if len(c) != 1 || c[0].I != 0 || c[0].J != 1 || math.Abs(c[0].Distance-0.1*5.43*math.Sqrt(3)) > 1e-9 {
		t.Fatalf("contacts %v", c)
	}
	if got, want := s.Describe(c[0]), "sites 1 (Si) and 2 (Si) are 0.941 Å apart"; got != want {
		t.Errorf("described as %q, want %q", got, want)
	}
}

func TestACrowdOfSitesIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	const n = 200_000
	s := &crystal.Structure{Lattice: &crystal.Matrix{{500, 0, 0}, {0, 500, 0}, {0, 0, 500}}}
	for i := range n {
		s.Species = append(s.Species, "H")
		s.Positions = append(s.Positions, crystal.Vector{1e-9 * float64(i), 0, 0})
	}
	if ps := s.Validate(); len(ps) < 2 {
		t.Errorf("problems %v", ps)
	}
	if d, _, _ := s.MinDistance(); d > 1e-6 {
		t.Errorf("shortest distance %v", d)
	}
}

func BenchmarkValidate(b *testing.B) {
	for _, n := range []int{10, 50} {
		s, err := silicon().Supercell(n, n, n)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%d_atoms", s.NAtoms()), func(b *testing.B) {
			for b.Loop() {
				if ps := s.Validate(); len(ps) > 0 {
					b.Fatal(ps)
				}
			}
		})
	}
}

func BenchmarkMinDistance(b *testing.B) {
	s, err := silicon().Supercell(50, 50, 50)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s.MinDistance()
	}
}
