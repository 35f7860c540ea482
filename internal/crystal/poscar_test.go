package crystal_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/crystal"
)

const poscarSeed = `salt ! any words
 1.0
 5.64 0 0
 0 5.64 0
 0 0 5.64
 Na_pv Cl/7ecaf0ae
 1 1
Selective dynamics
Direct
 0 0 0 T F .TRUE. Na
 0.5 0.5 0.5 F F F Cl

 0.001 0 0
 0 0.001 0
`

func TestPOSCARReadsFlagsVelocitiesAndSuffixes(t *testing.T) {
	t.Parallel()
	s, warnings := mustRead(t, "poscar", poscarSeed)
	want := &crystal.Structure{
		Lattice:    &crystal.Matrix{{5.64, 0, 0}, {0, 5.64, 0}, {0, 0, 5.64}},
		Species:    []string{"Na", "Cl"},
		Positions:  []crystal.Vector{{0, 0, 0}, {0.5, 0.5, 0.5}},
		Fixed:      [][3]bool{{false, true, false}, {true, true, true}},
		Velocities: []crystal.Vector{{0.001, 0, 0}, {0, 0.001, 0}},
	}
	if d := cmp.Diff(want, s); d != "" || len(warnings) > 0 {
		t.Error(d, warnings)
	}
}

// poscar is a good file with some lines replaced by others.
func poscar(changes ...string) string {
	return strings.NewReplacer(changes...).Replace("salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n")
}

func TestPOSCARScaleFactors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text   string
		volume, bond float64
	}{
		{"one", poscar(), 64, math.Sqrt(12)},
		{"two, of cartesian positions too", poscar("1.0", "2", "Direct", "cartesian", ".5 .5 .5", "1 0 0"), 512, 2},
		{"volume", poscar("1.0", "-512"), 512, 2 * math.Sqrt(12)},
		{"three", poscar("1.0", "1 2 3", "Direct", "K", ".5 .5 .5", "0 1 0"), 64 * 6, 2},
		{"with a remark", poscar("1.0", "1.0 Angstrom"), 64, math.Sqrt(12)},
		{"Fortran exponent", poscar("1.0", "1.0D0"), 64, math.Sqrt(12)},
	} {
		s, _ := mustRead(t, "poscar", test.text)
		cart := s.Cart()
		bond := crystal.Vector{cart[1][0] - cart[0][0], cart[1][1] - cart[0][1], cart[1][2] - cart[0][2]}.Norm()
		if math.Abs(s.Volume()-test.volume) > 1e-9 || math.Abs(bond-test.bond) > 1e-9 {
			t.Errorf("%s: volume %v and bond %v, want %v and %v", test.name, s.Volume(), bond, test.volume, test.bond)
		}
	}
}

func TestPOSCARSpecies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, species, warning string }{
		{"repeated", poscar("Na Cl", "Na Cl Na", "1 1", "1 1 1", ".5 .5 .5", ".5 .5 .5\n.5 0 0"), "Na Cl Na", ""},
		{"over several lines", poscar("Na Cl", "Na\nCl", "1 1", "1\n1"), "Na Cl", ""},
		{"any case", poscar("Na Cl", "NA cl"), "Na Cl", ""},
		{"remarks", poscar("Na Cl", "Na Cl ! species", "1 1", "1 1 # counts"), "Na Cl", ""},
		{"VASP 4 named on top", poscar("salt", "Cl K", "Na Cl\n", ""), "Cl K", "first line"},
		{"VASP 4 named at the positions", poscar("Na Cl\n", "", "Direct\n0 0 0", "Direct\n0 0 0 K", ".5 .5 .5", ".5 .5 .5 Br"), "K Br", "position lines"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, warnings := mustRead(t, "poscar", test.text)
			if got := strings.Join(s.Species, " "); got != test.species {
				t.Errorf("species %s, want %s", got, test.species)
			}
			if got := strings.Join(warnings, "; "); !strings.Contains(got, test.warning) || (got != "") != (test.warning != "") {
				t.Errorf("warnings %q, want %q", got, test.warning)
			}
		})
	}
}

func TestPOSCARVelocitiesThatCannotBeUsedAreSaid(t *testing.T) {
	t.Parallel()
	for tail, warning := range map[string]string{
		"\n1 0 0\n":                     "1 velocities for 2 atoms",
		"Direct\n1 0 0\n0 0 0\n":        "cells per time step",
		"\n0 0 0\n0 0 0\n":              "",
		"some remark\n":                 "",
		"\n\n\n":                        "",
		"\n0.0 0.0 0.0\nnot a number\n": "",
	} {
		s, warnings := mustRead(t, "poscar", poscar()+tail)
		if got := strings.Join(warnings, "; "); !strings.Contains(got, warning) || (got != "") != (warning != "") || s.Velocities != nil {
			t.Errorf("after %q: warnings %q, want %q; velocities %v", tail, got, warning, s.Velocities)
		}
	}
}

func TestPOSCARRefusesWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text, words string
		line              int
	}{
		{"only a comment", "salt\n", "ends before the scale factor", 0},
		{"no scale", poscar("1.0", "one"), "must be a scale factor", 2},
		{"scale of zero", poscar("1.0", "0"), "the scale factor is 0", 2},
		{"two scales", poscar("1.0", "1 2"), "or three", 2},
		{"negative among three", poscar("1.0", "1 -2 1"), "must all be positive", 2},
		{"NaN scale", poscar("1.0", "NaN"), "must be a scale factor", 2},
		{"short vector", poscar("0 4 0", "0 4"), "needs three numbers", 4},
		{"infinite vector", poscar("0 4 0", "0 Inf 0"), `"Inf" is not a finite number`, 4},
		{"hexadecimal", poscar("0 4 0", "0 0x4 0"), "not a finite number", 4},
		{"overflow", poscar("0 4 0", "0 1e999 0"), "not a finite number", 4},
		{"left out symbols", poscar("Na Cl", ""), "it is blank", 6},
		{"unknown symbol", poscar("Na Cl", "Na Cx"), `"Cx" is not an element`, 6},
		{"counts for one", poscar("1 1", "2"), "1 numbers of atoms for 2 elements", 7},
		{"counts for three", poscar("Na Cl\n1 1", "Na Cl\n1 1 1"), "", 0},
		{"no atoms", poscar("1 1", "0 2"), "must be at least 1", 7},
		{"negative atoms", poscar("1 1", "-1 2"), "must be at least 1", 7},
		{"a count that kills", poscar("1 1", "1000000000000 1"), "more than 1000000 atoms", 7},
		{"counts beyond 64 bits", poscar("1 1", "99999999999999999999 1"), "", 0},
		{"more than fits the file", poscar("1 1", "900000 1"), "too short for 900001 atoms", 7},
		{"no kind of coordinates", poscar("Direct\n", ""), "must say Direct or Cartesian", 8},
		{"one position missing", poscar("0 0 0\n.5", ".5"), "position 2 of 2 is missing", 0},
		{"blank line among positions", poscar("0 0 0\n.5", "0 0 0\n\n.5"), "position 2 of 2 is missing", 10},
		{"one position too many", poscar() + "0 0 .5\n", "more positions than the 2 atoms", 11},
		{"bad number", poscar(".5 .5 .5", ".5 x .5"), `"x" is not a finite number (position 2 of 2)`, 10},
		{"missing flags", poscar("Direct", "Selective\nDirect"), "needs three flags", 10},
		{"bad flag", poscar("Direct", "S\nDirect", "0 0 0\n.5 .5 .5", "0 0 0 T T T\n.5 .5 .5 T X T"), `"X" is not a flag`, 11},
		{"sites on top of each other", poscar(".5 .5 .5", "1 0 0"), "are 0.000 Å apart", 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			refuse(t, "poscar", test.text, test.words, test.line)
		})
	}
}

func TestPOSCARReportsEveryBadLine(t *testing.T) {
	t.Parallel()
	_, _, err := crystal.ReadPOSCAR([]byte(poscar("0 0 0\n.5 .5 .5", "a 0 0\n0 b 0")))
	if e, ok := err.(*crystal.ParseError); !ok || len(e.Problems) != 2 || e.Problems[0].Column != 1 || e.Problems[1].Column != 3 {
		t.Errorf("error %v", err)
	}
}

func FuzzReadPOSCAR(f *testing.F) {
	addSeeds(f, poscarSeed, poscar(), poscar("1.0", "-64"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := crystal.ReadPOSCAR(data)
		sound(t, s, err)
	})
}
