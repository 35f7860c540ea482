package crystal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nano-os/nanoos/internal/crystal"
)

const lammpsSeed = `LAMMPS data file via write_data, version 29 Sep 2021, timestep = 100, units = metal

3 atoms
2 atom types
1 bonds
1 bond types

1.0 5.0 xlo xhi
-2 2 ylo yhi
0 4 zlo zhi
0.5 0 0 xy xz yz

Masses

1 15.9994 # O
2 1.008   # hw

Pair Coeffs # lj/cut

1 0.1 3.0
2 0.0 1.0

Atoms # full

3 1 2  0.4 1.0 -1.0 0.5 0 0 1
1 1 1 -0.8 1.0 -2.0 0.0 0 0 0
2 1 2  0.4 1.9 -2.0 0.0 0 0 0

Velocities

1 0 0 0
2 0 0 0
3 0 0 0

Bonds

1 1 1 2
`

func TestLAMMPSDataComesInTheOrderOfIdsFromTheCornerOfTheBox(t *testing.T) {
	t.Parallel()
	s, _ := mustRead(t, "lammps-data", lammpsSeed)
	want := &crystal.Structure{
		Lattice:   &crystal.Matrix{{4, 0, 0}, {0.5, 4, 0}, {0, 0, 4}},
		Species:   []string{"O", "H", "H"},
		Positions: []crystal.Vector{{0, 0, 0}, {0.9, 0, 0}, {0, 1, 0.5}},
		Cartesian: true,
	}
	if d := cmp.Diff(want, s, cmpopts.EquateApprox(0, 1e-12)); d != "" {
		t.Error(d)
	}
}

// lammps is two atoms in a cube of 4 Å.
func lammps(style, masses, first, second string) string {
	return fmt.Sprintf("x\n\n2 atoms\n2 atom types\n\n0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi\n\nMasses\n\n%s\n\nAtoms%s\n\n%s\n%s\n", masses, style, first, second)
}

const saltMasses = "1 22.98977\n2 35.453"

func TestLAMMPSAtomStyles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text string }{
		{"atomic", lammps("", saltMasses, "1 1 0 0 0", "2 2 2 2 2")},
		{"atomic with flags", lammps("", saltMasses, "1 1 0 0 0 0 0 0", "2 2 2 2 2 0 -1 1")},
		{"charge", lammps("", saltMasses, "1 1 1 0 0 0", "2 2 -1 2 2 2")},
		{"charge with flags", lammps("", saltMasses, "1 1 1.0 0 0 0 1 0 0", "2 2 -1.0 2 2 2 0 0 0")},
		{"molecular", lammps("", saltMasses, "1 7 1 0 0 0", "2 7 2 2 2 2")},
		{"full", lammps("", saltMasses, "1 7 1 1.0 0 0 0", "2 7 2 -1.0 2 2 2")},
		{"full with flags", lammps("", saltMasses, "1 7 1 1.0 0 0 0 0 0 0", "2 7 2 -1.0 2 2 2 0 0 0")},
		{"named charge", lammps(" # charge", saltMasses, "1 1 1 0 0 0", "2 2 2 2 2 2")},
		{"named molecular", lammps("  #molecular", saltMasses, "1 1 1 0 0 0", "2 1 2 2 2 2")},
		{"remarks after atoms", lammps("", saltMasses, "1 1 0 0 0 # Na", "2 2 2 2 2 # Cl")},
		{"hybrid", lammps(" # hybrid sphere", saltMasses, "1 1 0 0 0 1 1", "2 2 2 2 2 1 1")},
		{"type labels", strings.Replace(lammps("", "Na 22.98977\nCl 35.453", "1 Na 0 0 0", "2 Cl 2 2 2"), "Masses", "Atom Type Labels\n\n1 Na\n2 Cl\n\nMasses", 1)},
		{"a general box", strings.Replace(lammps("", saltMasses, "1 1 1 0 0", "2 2 3 2 2"), "0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi", "4 0 0 avec\n0 4 0 bvec\n0 0 4 cvec\n1 0 0 abc origin", 1)},
	} {
		s, err := crystal.ReadLAMMPSData([]byte(test.text), nil)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		want := []crystal.Vector{{0, 0, 0}, {2, 2, 2}}
		if d := cmp.Diff(want, s.Positions); d != "" || s.Formula() != "ClNa" {
			t.Errorf("%s: %s %s", test.name, s.Formula(), d)
		}
	}
}

func TestLAMMPSElementsComeFromCallerCommentOrMass(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, masses string
		elements     []string
		want         string
	}{
		{"masses", saltMasses, nil, "Na Cl"},
		{"comments before masses", "1 22.98977 # K\n2 35.453 # Br-", nil, "K Cl"},
		{"caller before comments", "1 22.98977 # K\n2 35.453", []string{"Li", "F"}, "Li F"},
		{"caller for some", saltMasses, []string{"", "F"}, "Na F"},
		{"masses as people round them", "1 28.06\n2 27", nil, "Si Al"},
		{"near neighbours", "1 208.98\n2 207.2", nil, "Bi Pb"},
		{"old masses", "1 65.409\n2 32.066", nil, "Zn S"},
		{"neighbours", "1 58.693\n2 58.933", nil, "Ni Co"},
		{"deuterium", "1 2.0141\n2 15.9994", nil, "D O"},
	} {
		s, err := crystal.ReadLAMMPSData([]byte(lammps("", test.masses, "1 1 0 0 0", "2 2 2 2 2")), test.elements)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if got := strings.Join(s.Species, " "); got != test.want {
			t.Errorf("%s: species %s, want %s", test.name, got, test.want)
		}
	}
}

func TestLAMMPSDataRefusesWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	good := lammps("", saltMasses, "1 1 0 0 0", "2 2 2 2 2")
	replace := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, test := range []struct {
		name, text, words string
		line              int
	}{
		{"no atoms", replace("Atoms", "Extras"), "no section Atoms", 0},
		{"no count", replace("2 atoms", ""), "does not say how many atoms", 0},
		{"a count that kills", replace("2 atoms", "1000000000000 atoms"), "more than the 1000000 allowed", 3},
		{"more than fits the file", replace("2 atoms", "1000 atoms"), "too short for 1000 atoms", 0},
		{"types that kill", replace("2 atom types", "1000000000 atom types"), "more than the 10000 allowed", 4},
		{"one atom missing", replace("2 atoms", "3 atoms"), "2 lines for the 3 atoms", 0},
		{"one atom too many", replace("2 atoms", "1 atoms"), "more lines than the 1 atoms", 0},
		{"no mass", replace(saltMasses, ""), "which element atom type 1 is: it gives no mass", 0},
		{"reduced units", replace("22.98977", "1.0"), "its mass 1 is that of none", 0},
		{"united atoms", replace("22.98977", "14.027"), "its mass 14.027 is that of none", 0},
		{"negative mass", replace("22.98977", "-1"), `"-1" is not a mass`, 12},
		{"type beyond the types", replace("2 2 2 2 2", "2 3 2 2 2"), "the atom style cannot be told", 0},
		{"same with the style named", strings.Replace(replace("2 2 2 2 2", "2 3 2 2 2"), "Atoms", "Atoms # atomic", 1), `"3" is not one of the 2 atom types`, 18},
		{"unknown style", replace("Atoms", "Atoms # smd"), "the atom style smd is not read", 15},
		{"twice the same atom", replace("2 2 2 2 2", "1 2 2 2 2"), "the atom 1 is given twice", 18},
		{"bad id", strings.Replace(replace("2 2 2 2 2", "x 2 2 2 2"), "Atoms", "Atoms # atomic", 1), `"x" is not the id`, 18},
		{"not finite", replace("2 2 2 2 2", "2 2 2 nan 2"), `"nan" is not a finite number`, 18},
		{"no box", replace("0 4 xlo xhi", ""), "xlo xhi is missing", 0},
		{"box without size", replace("0 4 xlo xhi", "4 4 xlo xhi"), "has no size along x", 6},
		{"mixed bounds", replace("0 4 xlo xhi", "0 4 xlo yhi"), "must end in xlo xhi", 6},
		{"bad tilt", replace("0 4 xlo xhi", "0 4 xlo xhi\n0 a 0 xy xz yz"), `"a" is not a finite number`, 7},
		{"reduced units named", replace("x\n", "LAMMPS data file, units = lj\n"), "in the units lj", 1},
		{"words", replace("2 atoms", "two atoms"), "is not a line of a LAMMPS data file", 3},
		{"misspelt section", replace("Atoms", "Atom"), `"Atom" is not a section`, 15},
		{"sites on top of each other", replace("2 2 2 2 2", "2 2 4 0 0"), "are 0.000 Å apart", 18},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			refuse(t, "lammps-data", test.text, test.words, test.line)
		})
	}
	if _, err := crystal.ReadLAMMPSData([]byte(good), []string{"Qq", "Cl"}); err == nil {
		t.Error("the caller's element Qq is accepted")
	}
}

func TestParseLAMMPSDataKeepsUnitsStepAndTypes(t *testing.T) {
	t.Parallel()
	text := strings.Replace(lammps("", "1 1.0 # A\n2 2.5", "2 1 1 0 0 0", "1 2 1 2 2 2"), "x\n", "LAMMPS data file via write_data, version 3 Nov 2022, timestep = 12, units = lj\n", 1)
	f, err := crystal.ParseLAMMPSData([]byte(text), "charge")
	if err != nil {
		t.Fatal(err)
	}
	if f.Units != "lj" || f.Timestep != 12 || f.Lattice[2][2] != 4 || len(f.Types) != 2 || f.Types[1].Mass != 2.5 || f.Types[0].Symbol() != "" {
		t.Errorf("%+v", f)
	}
	if a := f.Atoms; a[0].ID != 1 || a[0].Type != 1 || a[1].Type != 0 || a[0].Position != (crystal.Vector{2, 2, 2}) {
		t.Errorf("atoms %+v", a)
	}
}

func TestAMassOfOneIsHydrogenOnlyInNamedUnits(t *testing.T) {
	t.Parallel()
	text := lammps("", "1 1.0\n2 15.9994", "1 1 0 0 0", "2 2 2 2 2")
	if _, err := crystal.ReadLAMMPSData([]byte(text), nil); err == nil {
		t.Error("a model without elements is taken for hydrogen")
	}
	s, err := crystal.ReadLAMMPSData([]byte("via write_data, units = real"+text[1:]), nil)
	if err != nil || s.Formula() != "HO" {
		t.Errorf("%v, %v", s, err)
	}
}

func FuzzReadLAMMPSData(f *testing.F) {
	addSeeds(f, lammpsSeed, lammps("", saltMasses, "1 1 0 0 0", "2 2 2 2 2"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := crystal.ReadLAMMPSData(data, nil)
		sound(t, s, err)
	})
}

func BenchmarkReadLAMMPSData(b *testing.B) {
	var text strings.Builder
	const n = 100_000
	fmt.Fprintf(&text, "x\n\n%d atoms\n1 atom types\n0 100 xlo xhi\n0 100 ylo yhi\n0 100 zlo zhi\n\nMasses\n\n1 63.546\n\nAtoms\n\n", n)
	for i := range n {
		fmt.Fprintf(&text, "%d 1 %d.5 %d.5 %d.5\n", i+1, i%100, i/100%100, i/10000)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := crystal.ReadLAMMPSData([]byte(text.String()), nil); err != nil {
			b.Fatal(err)
		}
	}
}
