package crystal_test

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

// TestTheHashIsTheOneOfEarlierVersions guards stored hashes: a change of the
// algorithm must change its version on purpose.
func TestTheHashIsTheOneOfEarlierVersions(t *testing.T) {
	t.Parallel()
	const want = "8ff69f6a35a7b9a2bb872179038bf1d2a3fce455bf7d4c2e32708d09baa44e1b"
	if got := silicon().Hash(); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestTheHashIgnoresWhatACalculationCannotTell(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyStructure(t)
		snap(s)
		want := s.Hash()
		same := reordered(s, rapid.Uint64().Draw(t, "order"))
		shift := crystal.Vector{}
		if p := s.Periodic(); p[0] == p[1] && p[1] == p[2] {
			shift = crystal.Vector{0.37, -1.25, 0.5}
		}
		for i, f := range same.Positions {
			for k := range 3 {
				f[k] += shift[k] + rapid.Float64Range(-1e-10, 1e-10).Draw(t, "noise")
				if same.Periodic()[k] {
					f[k] += float64(rapid.IntRange(-2, 2).Draw(t, "cells"))
				}
			}
			same.Positions[i] = f
		}
		if rapid.Bool().Draw(t, "to cartesian") && same.Lattice != nil {
			same.Positions, same.Cartesian = same.Cart(), true
		}
		if got := same.Hash(); got != want {
			t.Fatalf("hash %s, want %s:\n%+v\n%+v", got, want, s, same)
		}
	})
}

// snap moves the numbers of a structure away from the borders of rounding,
// where any noise would decide.
func snap(s *crystal.Structure) {
	if s.Lattice != nil {
		s.Positions, s.Cartesian = s.Frac(), false
		for k := range s.Lattice {
			s.Lattice[k] = snapped(s.Lattice[k])
		}
	}
	for i := range s.Positions {
		s.Positions[i] = snapped(s.Positions[i])
	}
}

func snapped(v crystal.Vector) crystal.Vector {
	for k := range v {
		v[k] = math.Round(v[k]*1e5) / 1e5
	}
	return v
}

func reordered(s *crystal.Structure, seed uint64) *crystal.Structure {
	out := &crystal.Structure{Lattice: s.Lattice, PBC: s.PBC, Cartesian: s.Cartesian}
	for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(s.NAtoms()) {
		out.Species = append(out.Species, s.Species[i])
		out.Positions = append(out.Positions, s.Positions[i])
		if s.Labels != nil {
			out.Labels = append(out.Labels, s.Labels[i])
		}
		if s.Magmoms != nil {
			out.Magmoms = append(out.Magmoms, s.Magmoms[i])
		}
		if s.Fixed != nil {
			out.Fixed = append(out.Fixed, s.Fixed[i])
		}
		if s.Velocities != nil {
			out.Velocities = append(out.Velocities, s.Velocities[i])
		}
	}
	return out
}

func TestTheHashAgreesAcrossTheBorderOfTheCell(t *testing.T) {
	t.Parallel()
	s := silicon()
	s.Positions[0] = crystal.Vector{0.999999999, -1e-9, 1.000000001}
	if s.Hash() != silicon().Hash() {
		t.Error("0.999999999 and 0 differ")
	}
}

func TestFieldsThatSayNothingDoNotChangeTheHash(t *testing.T) {
	t.Parallel()
	s := silicon()
	s.PBC, s.Magmoms, s.Fixed, s.Velocities = &[3]bool{true, true, true}, make([]float64, 2), make([][3]bool, 2), make([]crystal.Vector, 2)
	if s.Hash() != silicon().Hash() {
		t.Error("zeros change the hash")
	}
}

func TestTheHashTellsDifferentStructuresApart(t *testing.T) {
	t.Parallel()
	changes := map[string]func(s *crystal.Structure){
		"an element":      func(s *crystal.Structure) { s.Species[1] = "Ge" },
		"a position":      func(s *crystal.Structure) { s.Positions[1][0] += 1e-3 },
		"the cell":        func(s *crystal.Structure) { s.Lattice[0][1] += 1e-3 },
		"a label":         func(s *crystal.Structure) { s.Labels = []string{"Si1", "Si2"} },
		"moments":         func(s *crystal.Structure) { s.Magmoms = []float64{1, 0} },
		"opposed moments": func(s *crystal.Structure) { s.Magmoms = []float64{1, -1} },
		"a fixed atom":    func(s *crystal.Structure) { s.Fixed = [][3]bool{{true, true, true}, {}} },
		"a velocity":      func(s *crystal.Structure) { s.Velocities = []crystal.Vector{{0.01, 0, 0}, {}} },
		"a surface":       func(s *crystal.Structure) { s.PBC = &[3]bool{true, true, false} },
		"a molecule":      func(s *crystal.Structure) { s.Positions, s.Lattice = s.Cart(), nil },
		"a supercell": func(s *crystal.Structure) {
			big, _ := s.Supercell(1, 1, 2)
			*s = *big
		},
	}
	seen := map[string]string{silicon().Hash(): "nothing"}
	for _, what := range slices.Sorted(maps.Keys(changes)) {
		s := silicon()
		changes[what](s)
		if other, ok := seen[s.Hash()]; ok {
			t.Errorf("%s and %s have the same hash", what, other)
		}
		seen[s.Hash()] = what
	}
}

func BenchmarkHash(b *testing.B) {
	for _, n := range []int{2, 6, 7, 50} {
		s, err := silicon().Supercell(n, n, n)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s.Formula(), func(b *testing.B) {
			for b.Loop() {
				s.Hash()
			}
		})
	}
}
